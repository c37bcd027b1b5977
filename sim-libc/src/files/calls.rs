//! System calls about files, each one in the kernel's convention, whatever door it comes in by: libc's name for it,
//! `syscall(2)`, or a bare instruction.
//!
//! A call about a path is the disk's or the kernel's, and [`route`] says which: the kernel's are devices, `/proc` and
//! `/sys`. What the kernel's part of the tree would be changed by ends the run as escaped.

use super::open::{OpenFile, Random};
use super::{copy, done, go_to, is_simulated, paths, perform, real, real_call, stat, umask, with_disk, with_volume};
use crate::descriptors::{Answer, Description, Descriptors, Errno, KernelNumber, Object, Owner, calls};
use crate::interpose::{errno, escape, escapes};
use crate::raw;
use libc::{c_char, timespec};
use sim_core::World;
use sim_disk::{Allocate, Change, FileId, Op, OpenHow, Reply, Stamp, Stat, Time, WriteSync};
use std::any::Any;
use std::ffi::CStr;
use std::rc::Rc;

pub(super) const AT_CWD: i64 = libc::AT_FDCWD as i64;
pub(super) const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
const RANDOM: [&[u8]; 2] = [b"/dev/urandom", b"/dev/random"];

/// Whose a path is, and what it is there.
pub(super) enum Route {
    /// A path of the node's disk: an absolute one, or from an open directory on.
    Disk(Vec<u8>),
    /// An absolute path that the kernel answers for.
    Kernel(Vec<u8>),
    /// A file that the run has open, by its name below `/proc/self/fd`.
    Open(FileId, Vec<u8>),
    /// It begins at a directory that only the kernel knows.
    Elsewhere,
}

/// The calls that are as old as names without descriptors of directories, as those that took their places.
fn modern(number: i64, args: [i64; 6]) -> (i64, [i64; 6]) {
    let [a, b, c, d, ..] = args;
    let cwd = AT_CWD;
    match number {
        libc::SYS_open => (libc::SYS_openat, [cwd, a, b, c, 0, 0]),
        libc::SYS_creat => {
            (libc::SYS_openat, [cwd, a, (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as i64, b, 0, 0])
        }
        libc::SYS_stat => (libc::SYS_newfstatat, [cwd, a, b, 0, 0, 0]),
        libc::SYS_lstat => (libc::SYS_newfstatat, [cwd, a, b, NO_FOLLOW as i64, 0, 0]),
        libc::SYS_access => (libc::SYS_faccessat2, [cwd, a, b, 0, 0, 0]),
        libc::SYS_faccessat => (libc::SYS_faccessat2, [a, b, c, 0, 0, 0]),
        libc::SYS_rename => (libc::SYS_renameat2, [cwd, a, cwd, b, 0, 0]),
        libc::SYS_renameat => (libc::SYS_renameat2, [a, b, c, d, 0, 0]),
        libc::SYS_unlink => (libc::SYS_unlinkat, [cwd, a, 0, 0, 0, 0]),
        libc::SYS_rmdir => (libc::SYS_unlinkat, [cwd, a, libc::AT_REMOVEDIR as i64, 0, 0, 0]),
        libc::SYS_mkdir => (libc::SYS_mkdirat, [cwd, a, b, 0, 0, 0]),
        libc::SYS_link => (libc::SYS_linkat, [cwd, a, cwd, b, 0, 0]),
        libc::SYS_symlink => (libc::SYS_symlinkat, [a, cwd, b, 0, 0, 0]),
        libc::SYS_readlink => (libc::SYS_readlinkat, [cwd, a, b, c, 0, 0]),
        libc::SYS_chmod => (CHMODAT, [cwd, a, b, 0, 0, 0]),
        libc::SYS_fchmodat => (CHMODAT, [a, b, c, 0, 0, 0]),
        libc::SYS_chown => (libc::SYS_fchownat, [cwd, a, b, c, 0, 0]),
        libc::SYS_lchown => (libc::SYS_fchownat, [cwd, a, b, c, NO_FOLLOW as i64, 0]),
        libc::SYS_mknod => (libc::SYS_mknodat, [cwd, a, b, c, 0, 0]),
        _ => (number, args),
    }
}

/// fchmodat2(2), which not every libc has a number for.
pub(super) const CHMODAT: i64 = 452;

/// What the run answers to a system call; `None` if it is about no file of the run.
///
/// # Safety
/// The arguments are those of the system call of that number.
pub(crate) unsafe fn answer(world: &'static World, number: i64, args: [i64; 6]) -> Option<i64> {
    if !is_simulated(world) {
        return None;
    }
    let (number, args) = modern(number, args);
    // SAFETY: the caller's promise; the casts follow the calls' signatures.
    unsafe {
        match number {
            libc::SYS_mmap => return super::maps::map(world, args).map(calls::of),
            libc::SYS_munmap => {
                super::maps::unmapped(args[0] as usize, args[1] as usize);
                return None;
            }
            libc::SYS_mremap => return super::maps::remap(world, args),
            libc::SYS_mprotect => return super::maps::protect(world, args).map(calls::of),
            libc::SYS_msync => return super::maps::sync(world, args).map(calls::of),
            libc::SYS_madvise => return super::maps::advise(world, args).map(calls::of),
            _ => {}
        }
        match about_descriptor(world, number, args) {
            Some(answered) => answered.or_else(|| spares_kernels(world, number, args)).map(calls::of),
            None => paths::about_path(world, number, args).map(calls::of),
        }
    }
}

/// # Safety
/// `path` is a C string, or null.
pub(super) unsafe fn text<'a>(path: i64) -> Answer<&'a [u8]> {
    if path == 0 {
        return Err(Errno::FAULT);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(path as *const c_char) }.to_bytes())
}

/// The file behind a number, if there is one of the run's.
pub(super) fn file_of(own: &Description) -> Option<&OpenFile> {
    match &own.object {
        Object::Other(other) => (&**other as &dyn Any).downcast_ref(),
        _ => None,
    }
}

pub(super) fn description(world: &World, number: i64) -> Option<Rc<Description>> {
    match Descriptors::of(world).owner(world, number as i32) {
        Owner::Run(own) if file_of(&own).is_some() => Some(own),
        _ => None,
    }
}

/// `N` of `/proc/self/fd/N` and `/dev/fd/N`.
pub(super) fn number_in(path: &[u8]) -> Option<i64> {
    let number = path.strip_prefix(b"/proc/self/fd/").or(path.strip_prefix(b"/dev/fd/"))?;
    std::str::from_utf8(number).ok()?.parse::<i32>().ok().map(i64::from)
}

/// Whose `path` is, from the directory behind `dir` on.
pub(super) fn route(world: &'static World, dir: i64, path: &[u8], follow: bool) -> Answer<Route> {
    if path.is_empty() {
        return Err(Errno(libc::ENOENT));
    }
    let dir = dir as i32 as i64;
    if let Some(own) = number_in(path).and_then(|n| description(world, n))
        && let Some(file) = file_of(&own)
    {
        return Ok(Route::Open(file.id(world)?, file.path.clone()));
    }
    // Asked before anything is allocated: an allocator that begins may read about its machine there.
    let is_foreign = |tree: &&[u8]| path.strip_prefix(*tree).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    if real::FOREIGN.iter().any(is_foreign) && !path.windows(3).any(|w| w == b"/..") {
        return Ok(Route::Kernel(path.to_vec()));
    }
    let absolute = if path.starts_with(b"/") {
        path.to_vec()
    } else {
        let base = match dir {
            AT_CWD => match super::working_file(world) {
                Some(dir) => dir,
                None => return Ok(on_disk(world, [&real::working_dir()?, b"/".as_slice(), path].concat(), follow)),
            },
            number => match Descriptors::of(world).owner(world, number as i32) {
                Owner::Run(own) => {
                    let file = file_of(&own).ok_or(Errno(libc::ENOTDIR))?;
                    if !file.is_dir(world)? {
                        return Err(Errno(libc::ENOTDIR));
                    }
                    file.id(world)?
                }
                Owner::Kernel => return real::is_dir(number).map(|()| Route::Elsewhere),
                Owner::Nobody => return Err(Errno::BAD),
            },
        };
        let base = super::inode_of(world, base)?;
        with_volume(world, |volume| volume.path_from(base, path))
    };
    Ok(on_disk(world, absolute, follow))
}

/// What a path of the disk is, unless it leads to what is the kernel's.
fn on_disk(world: &World, path: Vec<u8>, follow: bool) -> Route {
    match with_volume(world, |volume| volume.leads_out(&path, follow)) {
        Some(real) => Route::Kernel(real),
        None => Route::Disk(path),
    }
}

/// Calls about the file behind a number. The outer `None`: it may be about a path. The inner one: the number is none of a
/// file of the run.
///
/// # Safety
/// As [`answer`].
unsafe fn about_descriptor(world: &'static World, number: i64, args: [i64; 6]) -> Option<Option<Answer<i64>>> {
    let [a, b, c, d, ..] = args;
    // SAFETY: the caller's promise: what is said here of each call is its signature.
    unsafe {
        let with = |f: &dyn Fn(&Description, &OpenFile, FileId) -> Answer<i64>| {
            let own = description(world, a)?;
            let file = file_of(&own)?;
            // What a descriptor that only names a file is good for: open(2), O_PATH.
            let names = matches!(
                number,
                libc::SYS_fstat
                    | libc::SYS_newfstatat
                    | libc::SYS_statx
                    | libc::SYS_fstatfs
                    | libc::SYS_fchdir
                    | libc::SYS_linkat
            );
            if own.status.get() & libc::O_PATH != 0 && !names {
                return Some(Err(Errno::BAD));
            }
            Some(file.id(world).and_then(|id| f(&own, file, id)))
        };
        Some(match number {
            libc::SYS_lseek => with(&|_, file, _| file.seek(world, b, c as i32)),
            libc::SYS_fsync => with(&|_, _, id| done(world, Op::Sync(id))),
            libc::SYS_fdatasync => with(&|_, _, id| done(world, Op::SyncData(id))),
            // It begins write-back and waits for it, and "has nothing to do with data integrity": no size, no name, and no
            // cache of the drive (sync_file_range(2), Warning). So it promises nothing.
            libc::SYS_sync_file_range => with(&|_, _, _| match (b >= 0 && c >= 0, d as u32 & !7) {
                (true, 0) if b.checked_add(c).is_some() => Ok(0),
                _ => Err(Errno::INVALID),
            }),
            libc::SYS_fadvise64 | libc::SYS_readahead => with(&|_, _, _| Ok(0)),
            libc::SYS_syncfs => with(&|_, _, _| sync(world)),
            libc::SYS_ftruncate => with(&|_, _, id| {
                let len = u64::try_from(b).map_err(|_| Errno::INVALID)?;
                done(world, Op::SetLen(id, len))
            }),
            libc::SYS_fallocate => with(&|_, _, id| allocate(world, id, b as i32, c, d)),
            libc::SYS_fstat => with(&|_, file, _| put_found(world, file.stat(world)?, b)),
            libc::SYS_newfstatat if d as i32 & libc::AT_EMPTY_PATH != 0 && text(b).is_ok_and(<[u8]>::is_empty) => {
                with(&|_, file, _| put_found(world, file.stat(world)?, c))
            }
            libc::SYS_statx if c as i32 & libc::AT_EMPTY_PATH != 0 && text(b).is_ok_and(<[u8]>::is_empty) => {
                with(&|_, file, _| put_found_extended(world, file.stat(world)?, args[4]))
            }
            libc::SYS_fchmod => with(&|_, _, id| done(world, Op::ChangeFile(id, Change::Mode(b as u32)))),
            libc::SYS_fchown => with(&|_, _, id| done(world, Op::ChangeFile(id, owner(b, c)))),
            libc::SYS_utimensat if b == 0 => with(&|_, _, id| match times(c)? {
                Some(change) => done(world, Op::ChangeFile(id, change)),
                None => Ok(0),
            }),
            libc::SYS_fchdir => with(&|_, file, id| {
                if !file.is_dir(world)? {
                    return Err(Errno(libc::ENOTDIR));
                }
                with_disk(world, |disk, _| disk.share(id))?;
                go_to(world, id);
                Ok(0)
            }),
            // Looked at before the descriptor is.
            libc::SYS_flock if !matches!(b as i32 & !libc::LOCK_NB, libc::LOCK_SH | libc::LOCK_EX | libc::LOCK_UN) => {
                Some(Err(Errno::INVALID))
            }
            libc::SYS_flock => with(&|_, file, _| file.flock(world, b as i32)),
            libc::SYS_getdents64 => with(&|_, file, _| entries(world, file, b as *mut u8, c as usize)),
            libc::SYS_getdents => with(&|_, _, _| Err(Errno(libc::ENOSYS))),
            libc::SYS_fstatfs => with(&|_, _, _| put_system(world, b)),
            libc::SYS_fgetxattr | libc::SYS_fsetxattr | libc::SYS_flistxattr | libc::SYS_fremovexattr => {
                with(&|_, _, _| Err(Errno(libc::EOPNOTSUPP)))
            }
            libc::SYS_copy_file_range => return Some(copy::copy(world, args, true)),
            libc::SYS_sendfile => return Some(copy::copy(world, [b, c, a, 0, d, 0], false)),
            libc::SYS_linkat
                if d != 0 && args[4] as i32 & libc::AT_EMPTY_PATH != 0 && text(b).is_ok_and(<[u8]>::is_empty) =>
            {
                with(&|_, _, id| match route(world, c, text(d)?, false)? {
                    Route::Disk(to) => done(world, Op::LinkFile(id, to)),
                    _ => Err(Errno(libc::EXDEV)),
                })
            }
            _ => return None,
        })
    }
}

/// What changes the inode behind a number, or locks it for every process of the machine.
fn touches(number: i64, [_, b, ..]: [i64; 6]) -> Option<&'static str> {
    Some(match number {
        libc::SYS_fchmod => "fchmod",
        libc::SYS_fchown => "fchown",
        libc::SYS_utimensat if b == 0 => "utimensat",
        libc::SYS_fsetxattr => "fsetxattr",
        libc::SYS_fremovexattr => "fremovexattr",
        libc::SYS_ftruncate => "ftruncate",
        libc::SYS_fallocate => "fallocate",
        libc::SYS_flock => "flock",
        _ => return None,
    })
}

/// Refuses what would change something real by a number of the kernel's.
fn spares_kernels(world: &World, number: i64, args: [i64; 6]) -> Option<Answer<i64>> {
    let call = touches(number, args)?;
    let fd = args[0] as i32;
    calls::is_real(world, fd).then(|| changes(world, call, format!("/proc/self/fd/{fd}").as_bytes()))
}

/// Makes a call that only reads at the kernel.
///
/// # Safety
/// As the system call, but for the path.
pub(super) unsafe fn reads(number: i64, args: [i64; 6], at: usize, path: &[u8]) -> Answer<i64> {
    // SAFETY: the caller's promise.
    kernel(unsafe { real_call(number, args, at, path) })
}

/// What the kernel answered.
pub(super) fn kernel(result: i64) -> Answer<i64> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result) }
}

pub(super) fn changes(world: &World, call: &str, path: &[u8]) -> Answer<i64> {
    escape(world, format!("{call}({:?})", String::from_utf8_lossy(path)));
    Err(Errno(libc::EPERM))
}

/// What open(2) means by its flags.
fn how(flags: i32, mode: u32) -> OpenHow {
    let has = |flag: i32| flags & flag == flag;
    let path_only = has(libc::O_PATH);
    // With O_PATH all flags but three are ignored: open(2).
    let flags = if path_only { flags & !(libc::O_TMPFILE & !libc::O_DIRECTORY) } else { flags };
    let has = |flag: i32| flags & flag == flag;
    let access = flags & libc::O_ACCMODE;
    let unnamed = has(libc::O_TMPFILE);
    OpenHow {
        read: !path_only && access != libc::O_WRONLY,
        write: !path_only && access != libc::O_RDONLY,
        append: !path_only && access != libc::O_RDONLY && has(libc::O_APPEND),
        truncate: !path_only && has(libc::O_TRUNC),
        create: !path_only && has(libc::O_CREAT),
        exclusive: has(libc::O_EXCL),
        directory: has(libc::O_DIRECTORY) && !unnamed,
        no_follow: has(libc::O_NOFOLLOW),
        path_only,
        unnamed,
        // O_SYNC has both bits.
        syncs: match () {
            () if has(libc::O_SYNC) => WriteSync::All,
            () if has(libc::O_DSYNC) => WriteSync::Data,
            () => WriteSync::Nothing,
        },
        mode,
    }
}

/// # Safety
/// `path` is a C string, or null.
pub(super) unsafe fn open(world: &'static World, dir: i64, path: i64, flags: i32, mode: u32) -> Answer<i64> {
    // SAFETY: the caller's promise.
    let given = unsafe { text(path)? };
    let how = how(flags, mode & 0o7777 & !umask(world));
    if how.create && how.directory || how.unnamed && !how.write {
        return Err(Errno::INVALID);
    }
    let follow = !(how.no_follow || how.create && how.exclusive);
    let absolute = match route(world, dir, given, follow)? {
        Route::Disk(path) => path,
        // Opened anew, as the file that its name leads to now.
        Route::Open(_, path) => path,
        Route::Kernel(path) => return open_real(world, &path, flags, mode),
        Route::Elsewhere => {
            // SAFETY: the caller's promise.
            if !unsafe { escapes::may_open(world, "open", path as *const c_char, flags) } {
                return Err(Errno(libc::EPERM));
            }
            // SAFETY: as above.
            let fd = unsafe { raw::call(libc::SYS_openat, [dir, path, flags as i64, 0, 0, 0]) };
            return kernel(Descriptors::of(world).give(fd));
        }
    };
    let only_reads = flags & libc::O_ACCMODE == libc::O_RDONLY
        && !(how.create || how.truncate || how.path_only || how.directory || how.unnamed);
    let kept = match how.path_only {
        true => libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW,
        false => libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECTORY | libc::O_SYNC,
    };
    let canonical = |world| with_volume(world, |volume| volume.canonical(&absolute)).unwrap_or_else(|_| given.to_vec());
    if only_reads
        && world.actor_lives()
        && let Some((file, below)) =
            with_disk(world, |disk, _| disk.open_below(world.acting_node(), &absolute, follow))?
    {
        // SAFETY: a path of a regular file, and flags.
        let number = unsafe { real_call(libc::SYS_openat, [AT_CWD, 0, flags as i64, 0, 0, 0], 1, &below) };
        let number = kernel(number).inspect_err(|_| with_disk(world, |disk, cx| disk.close(file, cx)))?;
        let opened = OpenFile::over(file, canonical(world), KernelNumber::new(number));
        return add(world, opened, flags & kept, flags & libc::O_CLOEXEC != 0);
    }
    let file = match perform(world, Op::Open(absolute.clone(), how))? {
        Reply::Opened(file) => file,
        _ => return Err(Errno(libc::EIO)),
    };
    let name = match how.unnamed {
        true => with_volume(world, |volume| volume.canonical(&absolute))
            .map(|dir| [&dir, b"/#unnamed (deleted)".as_slice()].concat())
            .unwrap_or_default(),
        false => canonical(world),
    };
    add(world, OpenFile::new(file, name), flags & kept, flags & libc::O_CLOEXEC != 0)
}

fn add(world: &World, file: OpenFile, status: i32, close_on_exec: bool) -> Answer<i64> {
    let made = Descriptors::of(world).add(world, Object::Other(Box::new(file)), status, close_on_exec)?;
    Ok(made as i64)
}

/// Opens what is the kernel's.
fn open_real(world: &'static World, path: &[u8], flags: i32, mode: u32) -> Answer<i64> {
    if RANDOM.contains(&path) {
        let made = Descriptors::of(world).add(
            world,
            Object::Other(Box::new(Random)),
            flags & libc::O_ACCMODE,
            flags & libc::O_CLOEXEC != 0,
        )?;
        return Ok(made as i64);
    }
    let name = std::ffi::CString::new(path).map_err(|_| Errno::INVALID)?;
    // SAFETY: a C string.
    if !unsafe { escapes::may_open(world, "open", name.as_ptr(), flags) } {
        return Err(Errno(libc::EPERM));
    }
    // SAFETY: a C string that lives across the call, and numbers.
    let fd = unsafe { raw::call(libc::SYS_openat, [AT_CWD, name.as_ptr() as i64, flags as i64, mode as i64, 0, 0]) };
    kernel(Descriptors::of(world).give(fd))
}

/// Everything that the node has written becomes durable: sync(2).
pub(super) fn sync(world: &'static World) -> Answer<i64> {
    if !world.actor_lives() {
        return Ok(0);
    }
    let node = world.acting_node();
    with_disk(world, |disk, cx| disk.sync_all(node, cx));
    Ok(0)
}

pub(super) fn owner(user: i64, group: i64) -> Change {
    let given = |id: i64| (id as i32 != -1).then_some(id as u32);
    Change::Owner(given(user), given(group))
}

/// What utimensat(2) means by two times; `None` if nothing is to be changed.
///
/// # Safety
/// `at` is the address of two timespecs, or 0.
pub(super) unsafe fn times(at: i64) -> Answer<Option<Change>> {
    // SAFETY: the caller's promise.
    let Some(given) = (unsafe { (at as *const [timespec; 2]).as_ref() }) else {
        return Ok(Some(Change::Times(Some(None), Some(None))));
    };
    let one = |t: &timespec| -> Answer<Option<Time>> {
        match t.tv_nsec {
            libc::UTIME_NOW => Ok(Some(None)),
            libc::UTIME_OMIT => Ok(None),
            ns @ 0..1_000_000_000 => Ok(Some(Some(Stamp::Wall(t.tv_sec, ns as u32)))),
            _ => Err(Errno::INVALID),
        }
    };
    let (read, written) = (one(&given[0])?, one(&given[1])?);
    Ok((read.is_some() || written.is_some()).then_some(Change::Times(read, written)))
}

fn allocate(world: &'static World, file: FileId, mode: i32, at: i64, len: i64) -> Answer<i64> {
    if at < 0 || len <= 0 {
        return Err(Errno::INVALID);
    }
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    let what = match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Allocate::Space,
        libc::FALLOC_FL_ZERO_RANGE => Allocate::Zeros,
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => Allocate::Hole,
        _ => return Err(Errno(libc::EOPNOTSUPP)),
    };
    done(world, Op::Allocate(file, at as u64, len as u64, what, keep_size))
}

/// Writes what is known of a file.
///
/// # Safety
/// `out` is the address of a stat, or 0.
unsafe fn put_found(world: &World, found: Stat, out: i64) -> Answer<i64> {
    // SAFETY: the caller's promise.
    *unsafe { (out as *mut libc::stat).as_mut() }.ok_or(Errno::FAULT)? = stat::fill(world, &found);
    Ok(0)
}

/// # Safety
/// `out` is the address of a statx, or 0.
unsafe fn put_found_extended(world: &World, found: Stat, out: i64) -> Answer<i64> {
    // SAFETY: the caller's promise.
    *unsafe { (out as *mut libc::statx).as_mut() }.ok_or(Errno::FAULT)? = stat::extended(&stat::fill(world, &found));
    Ok(0)
}

/// # Safety
/// `out` is the address of a stat, or 0.
pub(super) unsafe fn put_stat(world: &'static World, op: Op, out: i64) -> Answer<i64> {
    if out == 0 {
        return Err(Errno::FAULT);
    }
    match perform(world, op)? {
        // SAFETY: the caller's promise.
        Reply::Stat(found) => unsafe { put_found(world, found, out) },
        _ => Err(Errno(libc::EIO)),
    }
}

/// # Safety
/// `out` is the address of a statx, or 0.
pub(super) unsafe fn put_statx(world: &'static World, op: Op, out: i64) -> Answer<i64> {
    if out == 0 {
        return Err(Errno::FAULT);
    }
    match perform(world, op)? {
        // SAFETY: the caller's promise.
        Reply::Stat(found) => unsafe { put_found_extended(world, found, out) },
        _ => Err(Errno(libc::EIO)),
    }
}

/// # Safety
/// `out` is the address of a statfs, or 0.
pub(super) unsafe fn put_system(world: &'static World, out: i64) -> Answer<i64> {
    let out = out as *mut libc::statfs;
    if out.is_null() {
        return Err(Errno::FAULT);
    }
    let (total, free) = with_volume(world, |volume| volume.pages());
    // SAFETY: the caller's promise.
    unsafe { out.write(stat::fill_system(total, free)) };
    Ok(0)
}

/// getdents64(2): records of inode, offset, length, kind and name, each of a multiple of eight bytes.
///
/// # Safety
/// `out` is valid for `room` bytes.
unsafe fn entries(world: &'static World, file: &OpenFile, out: *mut u8, room: usize) -> Answer<i64> {
    const HEAD: usize = 19;
    if out.is_null() {
        return Err(Errno::FAULT);
    }
    let (mut used, mut too_small) = (0, false);
    file.list(world, |ino, kind, name, offset| {
        let length = (HEAD + name.len() + 1).next_multiple_of(8);
        if used + length > room {
            too_small = used == 0;
            return false;
        }
        let mut record = vec![0u8; length];
        record[..8].copy_from_slice(&ino.to_ne_bytes());
        record[8..16].copy_from_slice(&(offset as u64).to_ne_bytes());
        record[16..18].copy_from_slice(&(length as u16).to_ne_bytes());
        record[18] = kind;
        record[HEAD..HEAD + name.len()].copy_from_slice(name);
        // SAFETY: the caller's promise: there is room, as was just checked.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), out.add(used), length) };
        used += length;
        true
    })?;
    if too_small { Err(Errno::INVALID) } else { Ok(used as i64) }
}

/// The absolute path without links, as realpath(3) says it; `None` if it is the kernel's.
pub(super) fn canonical(world: &'static World, path: &[u8]) -> Option<Answer<Vec<u8>>> {
    Some(match route(world, AT_CWD, path, true) {
        Err(error) => Err(error),
        Ok(Route::Disk(path)) => perform(world, Op::Canonical(path)).and_then(|reply| match reply {
            Reply::Path(path) => Ok(path),
            _ => Err(Errno(libc::EIO)),
        }),
        Ok(Route::Open(_, path)) => Ok(path),
        Ok(Route::Kernel(_) | Route::Elsewhere) => return None,
    })
}

/// What the kernel would have said, as libc says it.
pub(super) fn said(answer: Answer<i64>) -> i64 {
    errno(calls::of(answer))
}
