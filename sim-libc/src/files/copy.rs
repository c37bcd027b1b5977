//! Bytes from one descriptor to another: copy_file_range(2) and sendfile(2).

use super::calls::{description, file_of, kernel};
use super::open::OpenFile;
use super::with_volume;
use crate::descriptors::{Answer, Description, Descriptors, Errno, Object, Owner, calls};
use crate::raw;
use sim_core::World;
use std::rc::Rc;

/// What there is to copy at most: what the source holds now, and no part of itself (generic_copy_file_checks of
/// fs/read_write.c).
fn to_be_copied(
    world: &'static World,
    (from, read_at): (&OpenFile, Option<i64>),
    (to, write_at): (&OpenFile, Option<i64>),
    len: i64,
) -> Answer<i64> {
    let inode = from.inode(world)?;
    let start = read_at.map_or_else(|| from.cursor(world), |at| Ok(at as u64))?;
    let target = write_at.map_or_else(|| to.cursor(world), |at| Ok(at as u64))?;
    let size = with_volume(world, |volume| volume.size(inode));
    let count = (len as u64).min(size.saturating_sub(start));
    let overlaps = target.saturating_add(count) > start && target < start.saturating_add(count);
    if inode == to.inode(world)? && overlaps { Err(Errno::INVALID) } else { Ok(count as i64) }
}

/// Where bytes are copied from.
enum Source {
    Run(Rc<Description>),
    /// A file that only the kernel knows, by its number there.
    Kernel(i64),
}

impl Source {
    fn of(world: &World, number: i64) -> Option<Source> {
        match Descriptors::of(world).owner(world, number as i32) {
            Owner::Run(own) => match &own.object {
                Object::Kernel(real) => Some(Source::Kernel(real.get())),
                _ => file_of(&own).is_some().then_some(Source::Run(own)),
            },
            Owner::Kernel => Some(Source::Kernel(number)),
            Owner::Nobody => None,
        }
    }

    fn read(&self, world: &'static World, at: Option<i64>, len: usize) -> Answer<Vec<u8>> {
        match self {
            Source::Run(own) => {
                let file = file_of(own).ok_or(Errno::INVALID)?;
                file.read_bytes(world, at.map(|at| at as u64), len)
            }
            Source::Kernel(number) => {
                let mut bytes = vec![0; len];
                let (call, at) = at.map_or((libc::SYS_read, 0), |at| (libc::SYS_pread64, at));
                // SAFETY: a buffer of that length, ours alone.
                let read = unsafe { raw::call(call, [*number, bytes.as_mut_ptr() as i64, len as i64, at, 0, 0]) };
                bytes.truncate(kernel(read)? as usize);
                Ok(bytes)
            }
        }
    }

    /// Goes back by what was read and not written.
    fn step_back(&self, world: &'static World, len: i64) -> Answer<()> {
        match self {
            Source::Run(own) => file_of(own).ok_or(Errno::INVALID)?.seek(world, -len, libc::SEEK_CUR)?,
            // SAFETY: numbers only.
            Source::Kernel(number) => {
                kernel(unsafe { raw::call(libc::SYS_lseek, [*number, -len, libc::SEEK_CUR as i64, 0, 0, 0]) })?
            }
        };
        Ok(())
    }
}

/// copy_file_range(2) and sendfile(2): bytes from one descriptor to another, of which at least one is the run's. `None` if
/// neither is.
///
/// # Safety
/// As the system call.
pub(super) unsafe fn copy(world: &'static World, args: [i64; 6], files_only: bool) -> Option<Answer<i64>> {
    const CHUNK: usize = 64 << 10;
    let [from, from_at, to, to_at, len, flags] = args;
    let is_kernels = |number: i64| matches!(Descriptors::of(world).owner(world, number as i32), Owner::Kernel);
    if is_kernels(from) && is_kernels(to) {
        return None;
    }
    let target = description(world, to);
    let copied = || -> Answer<i64> {
        if flags != 0 && files_only {
            return Err(Errno::INVALID);
        }
        let nobodys = |number: i64| matches!(Descriptors::of(world).owner(world, number as i32), Owner::Nobody);
        if nobodys(from) || nobodys(to) {
            return Err(Errno::BAD);
        }
        // Only a file can be read without taking from it what cannot be written; the rest callers do with read and write.
        let source = Source::of(world, from).filter(|source| !files_only || matches!(source, Source::Run(_)));
        let Some(source) = source else { return Err(Errno(if files_only { libc::EXDEV } else { libc::EINVAL })) };
        // The order of fs/read_write.c: what only names a file, directories, then how each was opened.
        let only_names = |own: &Description| own.status.get() & libc::O_PATH != 0;
        let own = match &source {
            Source::Run(own) => Some(own),
            Source::Kernel(_) => None,
        };
        if own.is_some_and(|own| only_names(own)) || target.as_deref().is_some_and(only_names) {
            return Err(Errno::BAD);
        }
        let file = own.and_then(|own| file_of(own));
        if files_only {
            let Some(into) = target.as_deref() else { return Err(Errno(libc::EXDEV)) };
            let is_dir = |file: Option<&OpenFile>| file.is_some_and(|file| file.is_dir(world) == Ok(true));
            if is_dir(file) || is_dir(file_of(into)) {
                return Err(Errno(libc::EISDIR));
            }
            let status = into.status.get();
            if status & libc::O_ACCMODE == libc::O_RDONLY || status & libc::O_APPEND != 0 {
                return Err(Errno::BAD);
            }
        }
        if own.is_some_and(|own| own.status.get() & libc::O_ACCMODE == libc::O_WRONLY) {
            return Err(Errno::BAD);
        }
        // SAFETY: the caller's promise: addresses of offsets, or 0.
        let (from_place, to_place) = unsafe { ((from_at as *mut i64).as_mut(), (to_at as *mut i64).as_mut()) };
        let (mut read_at, mut write_at) = (from_place.as_deref().copied(), to_place.as_deref().copied());
        if read_at.is_some_and(|at| at < 0) || write_at.is_some_and(|at| at < 0) {
            return Err(Errno::INVALID);
        }
        let len = match (file, target.as_deref().and_then(file_of)) {
            (Some(file), Some(into)) if files_only => to_be_copied(world, (file, read_at), (into, write_at), len)?,
            _ => len,
        };
        let mut sum = 0i64;
        while sum < len {
            let want = ((len - sum) as usize).min(CHUNK);
            let bytes = source.read(world, read_at, want)?;
            if bytes.is_empty() {
                break;
            }
            let got = bytes.len() as i64;
            let wrote = match (&target, write_at) {
                (Some(own), at) => {
                    let into = file_of(own).ok_or(Errno::BAD)?;
                    into.write_bytes(world, at.map(|at| at as u64), None, &bytes).map(|n| n as i64)
                }
                (None, _) => {
                    let args = [to, bytes.as_ptr() as i64, got, 0, 0, 0];
                    // SAFETY: a buffer of that length, which lives across the call.
                    kernel(unsafe {
                        calls::answer(world, libc::SYS_write, args).unwrap_or_else(|| raw::call(libc::SYS_write, args))
                    })
                }
            };
            let wrote = match wrote {
                Ok(wrote) => wrote,
                Err(error) if sum == 0 => {
                    if read_at.is_none() {
                        source.step_back(world, got)?;
                    }
                    return Err(error);
                }
                Err(_) => 0,
            };
            // What was read and not written is read again.
            if read_at.is_none() && wrote < got {
                source.step_back(world, got - wrote)?;
            }
            read_at = read_at.map(|at| at + wrote);
            write_at = write_at.map(|at| at + wrote);
            sum += wrote;
            if wrote < got {
                break;
            }
        }
        if let (Some(place), Some(at)) = (from_place, read_at) {
            *place = at;
        }
        if let (Some(place), Some(at)) = (to_place, write_at) {
            *place = at;
        }
        Ok(sum)
    };
    Some(copied())
}
