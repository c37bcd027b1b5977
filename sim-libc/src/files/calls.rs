//! System calls about files, each one in the kernel's convention, whatever door it comes in by: libc's name for it,
//! `syscall(2)`, or a bare instruction.
//!
//! A call about a path is the disk's or the kernel's, and [`route`] says which: the kernel's are devices, `/proc` and
//! `/sys`. What the kernel's part of the tree would be changed by ends the run as escaped.

use super::open::{OpenFile, Random};
use super::{
    done, go_to, hold_dir, is_simulated, perform, real, real_call, set_umask, stat, umask, with_disk, with_volume,
    working_dir,
};
use crate::descriptors::{Answer, Description, Descriptors, Errno, KernelNumber, Object, Owner, calls};
use crate::interpose::{errno, escape, escapes};
use crate::raw;
use libc::{c_char, timespec};
use sim_core::World;
use sim_disk::{Allocate, Change, FileId, Op, OpenHow, Reply, Stamp, Stat, Taken, Time};
use std::any::Any;
use std::ffi::CStr;
use std::rc::Rc;

pub(super) const AT_CWD: i64 = libc::AT_FDCWD as i64;
const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
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
            _ => {}
        }
        match about_descriptor(world, number, args) {
            Some(answered) => answered.or_else(|| spares_kernels(world, number, args)).map(calls::of),
            None => about_path(world, number, args).map(calls::of),
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
fn number_in(path: &[u8]) -> Option<i64> {
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
            // Neither promises anything that could be lost.
            libc::SYS_sync_file_range | libc::SYS_fadvise64 | libc::SYS_readahead => with(&|_, _, _| Ok(0)),
            libc::SYS_syncfs => with(&|_, _, _| sync(world)),
            libc::SYS_ftruncate => with(&|_, file, id| {
                let len = u64::try_from(b).map_err(|_| Errno::INVALID)?;
                done(world, Op::SetLen(id, len))?;
                super::Files::of(world).maps.refresh(world, file.inode(world)?);
                Ok(0)
            }),
            libc::SYS_fallocate => with(&|_, file, id| {
                allocate(world, id, b as i32, c, d)?;
                super::Files::of(world).maps.refresh(world, file.inode(world)?);
                Ok(0)
            }),
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
            libc::SYS_copy_file_range => return Some(copy(world, args, true)),
            libc::SYS_sendfile => return Some(copy(world, [b, c, a, 0, d, 0], false)),
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
unsafe fn reads(number: i64, args: [i64; 6], at: usize, path: &[u8]) -> Answer<i64> {
    // SAFETY: the caller's promise.
    kernel(unsafe { real_call(number, args, at, path) })
}

/// What the kernel answered.
pub(super) fn kernel(result: i64) -> Answer<i64> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result) }
}

fn changes(world: &World, call: &str, path: &[u8]) -> Answer<i64> {
    escape(world, format!("{call}({:?})", String::from_utf8_lossy(path)));
    Err(Errno(libc::EPERM))
}

/// Calls about names.
///
/// # Safety
/// As [`answer`].
unsafe fn about_path(world: &'static World, number: i64, args: [i64; 6]) -> Option<Answer<i64>> {
    let [a, b, c, d, e, _] = args;
    // SAFETY: the caller's promise; the casts follow the calls' signatures.
    unsafe {
        // A call about one path: what the disk makes of it, what a file that is open, and whether the kernel may have it.
        let one = |dir: i64,
                   path: i64,
                   follow: bool,
                   at: usize,
                   changes_as: Option<&str>,
                   disk: &dyn Fn(Vec<u8>) -> Answer<i64>,
                   open: &dyn Fn(FileId, &[u8]) -> Answer<i64>| {
            let routed = text(path).and_then(|path| route(world, dir, path, follow));
            match routed {
                Err(error) => Some(Err(error)),
                Ok(Route::Disk(path)) => Some(disk(path)),
                Ok(Route::Open(id, path)) => Some(open(id, &path)),
                Ok(Route::Kernel(path)) => Some(match changes_as {
                    Some(call) => changes(world, call, &path),
                    None => reads(number, args, at, &path),
                }),
                Ok(Route::Elsewhere) => changes_as.map(|call| text(path).and_then(|path| changes(world, call, path))),
            }
        };
        let is_a_name = |_: FileId, _: &[u8]| Err(Errno(libc::EPERM));
        match number {
            libc::SYS_openat => Some(open(world, a, b, c as i32, d as u32)),
            libc::SYS_openat2 => {
                // struct open_how: flags, mode, resolve, 64 bits each.
                let Some(how) = (c as *const [u64; 3]).as_ref().filter(|_| d >= 24) else {
                    return Some(Err(Errno::INVALID));
                };
                // What confines a path to a directory is not modelled: callers fall back to openat.
                if how[2] != 0 {
                    return Some(Err(Errno(libc::ENOSYS)));
                }
                Some(open(world, a, b, how[0] as i32, how[1] as u32))
            }
            libc::SYS_newfstatat => {
                let follow = d as i32 & NO_FOLLOW == 0;
                one(
                    a,
                    b,
                    follow,
                    1,
                    None,
                    &|path| put_stat(world, if follow { Op::Stat(path) } else { Op::StatLink(path) }, c),
                    &|id, _| put_stat(world, Op::StatFile(id), c),
                )
            }
            libc::SYS_statx => {
                let follow = c as i32 & NO_FOLLOW == 0;
                one(
                    a,
                    b,
                    follow,
                    1,
                    None,
                    &|path| put_statx(world, if follow { Op::Stat(path) } else { Op::StatLink(path) }, e),
                    &|id, _| put_statx(world, Op::StatFile(id), e),
                )
            }
            libc::SYS_faccessat2 => {
                let (follow, wanted) = (d as i32 & NO_FOLLOW == 0, c as u32);
                if wanted & !7 != 0 {
                    return Some(Err(Errno::INVALID));
                }
                one(a, b, follow, 1, None, &|path| done(world, Op::Access(path, wanted, follow)), &|_, _| Ok(0))
            }
            libc::SYS_readlinkat => {
                let put = |target: &[u8]| {
                    let len = target.len().min(usize::try_from(d as i32).unwrap_or(0));
                    if len == 0 {
                        return Err(Errno::INVALID);
                    }
                    std::ptr::copy_nonoverlapping(target.as_ptr(), c as *mut u8, len);
                    Ok(len as i64)
                };
                let read = |path| match perform(world, Op::ReadLink(path))? {
                    Reply::Path(target) => put(&target),
                    _ => Err(Errno(libc::EIO)),
                };
                one(a, b, false, 1, None, &read, &|_, path| put(path))
            }
            libc::SYS_unlinkat => {
                let is_dir = c as i32 & libc::AT_REMOVEDIR != 0;
                let call = if is_dir { "rmdir" } else { "unlink" };
                let remove = |path| done(world, if is_dir { Op::RemoveDir(path) } else { Op::RemoveFile(path) });
                one(a, b, false, 1, Some(call), &remove, &is_a_name)
            }
            libc::SYS_mkdirat => {
                let make = |path| done(world, Op::CreateDir(path, c as u32 & !umask(world)));
                one(a, b, false, 1, Some("mkdir"), &make, &is_a_name)
            }
            libc::SYS_symlinkat if text(a).is_ok_and(<[u8]>::is_empty) => Some(Err(Errno(libc::ENOENT))),
            libc::SYS_symlinkat => {
                let make = |path| done(world, Op::CreateLink(text(a)?.to_vec(), path));
                one(b, c, false, 2, Some("symlink"), &make, &is_a_name)
            }
            libc::SYS_renameat2 => {
                let taken = match e as u32 {
                    0 => Taken::Replace,
                    libc::RENAME_NOREPLACE => Taken::Refuse,
                    libc::RENAME_EXCHANGE => Taken::Exchange,
                    _ => return Some(Err(Errno::INVALID)),
                };
                Some(two(world, [a, b, c, d], false, "rename", |from, to| Op::RenameTaken(from, to, taken)))
            }
            libc::SYS_linkat => {
                let follow = e as i32 & libc::AT_SYMLINK_FOLLOW != 0;
                let named = |path| text(path).and_then(|path| number_in(path).ok_or(Errno::INVALID));
                // A file without a name gets one by its number: open(2), O_TMPFILE.
                if follow && let Some(own) = named(b).ok().and_then(|n| description(world, n)) {
                    let file = file_of(&own)?;
                    let to = text(d).and_then(|to| route(world, c, to, false));
                    return Some(match (file.id(world), to) {
                        (Ok(id), Ok(Route::Disk(to))) => done(world, Op::LinkFile(id, to)),
                        (Ok(_), Ok(_)) => Err(Errno(libc::EXDEV)),
                        (Err(error), _) | (_, Err(error)) => Err(error),
                    });
                }
                Some(two(world, [a, b, c, d], follow, "link", |from, to| Op::Link(from, to, follow)))
            }
            CHMODAT => {
                let follow = d as i32 & NO_FOLLOW == 0;
                let change = Change::Mode(c as u32);
                one(a, b, follow, 1, Some("chmod"), &|path| done(world, Op::Change(path, change, follow)), &|id, _| {
                    done(world, Op::ChangeFile(id, change))
                })
            }
            libc::SYS_fchownat => {
                let (follow, change) = (e as i32 & NO_FOLLOW == 0, owner(c, d));
                one(a, b, follow, 1, Some("chown"), &|path| done(world, Op::Change(path, change, follow)), &|id, _| {
                    done(world, Op::ChangeFile(id, change))
                })
            }
            libc::SYS_utimensat => {
                let follow = d as i32 & NO_FOLLOW == 0;
                let change = match times(c) {
                    Ok(Some(change)) => change,
                    Ok(None) => return Some(Ok(0)),
                    // Times that are none are found out after the file was.
                    Err(error) => {
                        let find = |path| if follow { Op::Stat(path) } else { Op::StatLink(path) };
                        let found = |path| done(world, find(path)).and(Err(error));
                        return one(a, b, follow, 1, Some("utimensat"), &found, &|_, _| Err(error));
                    }
                };
                one(
                    a,
                    b,
                    follow,
                    1,
                    Some("utimensat"),
                    &|path| done(world, Op::Change(path, change, follow)),
                    &|id, _| done(world, Op::ChangeFile(id, change)),
                )
            }
            libc::SYS_truncate => {
                let Ok(len) = u64::try_from(b) else { return Some(Err(Errno::INVALID)) };
                let cut = |path: Vec<u8>| {
                    done(world, Op::Truncate(path.clone(), len))?;
                    if let Ok(inode) = with_volume(world, |volume| volume.lookup(&path, true)) {
                        super::Files::of(world).maps.refresh(world, inode);
                    }
                    Ok(0)
                };
                one(AT_CWD, a, true, 0, Some("truncate"), &cut, &|id, _| done(world, Op::SetLen(id, len)))
            }
            libc::SYS_chdir => {
                let go = |path: Vec<u8>| {
                    with_volume(world, |volume| {
                        let inode = volume.lookup(&path, true)?;
                        if !volume.stat(inode).is_dir() {
                            return Err(sim_disk::Errno::ENOTDIR);
                        }
                        volume.access(inode, libc::X_OK as u32)
                    })?;
                    go_to(world, hold_dir(world, &path)?);
                    Ok(0)
                };
                one(AT_CWD, a, true, 0, Some("chdir"), &go, &|_, _| Err(Errno(libc::ENOTDIR)))
            }
            libc::SYS_getcwd => Some(working_dir(world).and_then(|path| {
                if path.len() >= b as usize {
                    return Err(Errno(libc::ERANGE));
                }
                if a == 0 {
                    return Err(Errno::FAULT);
                }
                std::ptr::copy_nonoverlapping(path.as_ptr(), a as *mut u8, path.len());
                (a as *mut u8).add(path.len()).write(0);
                Ok(path.len() as i64 + 1)
            })),
            libc::SYS_umask => Some(Ok(set_umask(world, a as u32) as i64)),
            libc::SYS_sync => Some(sync(world)),
            libc::SYS_statfs => one(AT_CWD, a, true, 0, None, &|_| put_system(world, b), &|_, _| put_system(world, b)),
            libc::SYS_getxattr | libc::SYS_lgetxattr | libc::SYS_listxattr | libc::SYS_llistxattr => {
                let none = |_| Err(Errno(libc::EOPNOTSUPP));
                one(AT_CWD, a, true, 0, None, &none, &|_, _| Err(Errno(libc::EOPNOTSUPP)))
            }
            libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_removexattr | libc::SYS_lremovexattr => {
                Some(Err(Errno(libc::EOPNOTSUPP)))
            }
            libc::SYS_mknodat => Some(text(b).and_then(|path| changes(world, "mknod", path))),
            libc::SYS_chroot => Some(text(a).and_then(|path| changes(world, "chroot", path))),
            libc::SYS_memfd_create => Some(text(a).and_then(|name| changes(world, "memfd_create", name))),
            libc::SYS_inotify_init | libc::SYS_inotify_init1 | libc::SYS_fanotify_init => {
                Some(changes(world, "inotify_init", b"changes of files"))
            }
            _ => None,
        }
    }
}

/// A call about two paths.
///
/// # Safety
/// Both are C strings, or null.
unsafe fn two(
    world: &'static World,
    [from_dir, from, to_dir, to]: [i64; 4],
    follow: bool,
    call: &str,
    op: impl FnOnce(Vec<u8>, Vec<u8>) -> Op,
) -> Answer<i64> {
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (text(from)?, text(to)?) };
    match (route(world, from_dir, from, follow)?, route(world, to_dir, to, false)?) {
        (Route::Disk(from), Route::Disk(to)) => done(world, op(from, to)),
        (Route::Disk(_), Route::Open(..)) | (Route::Open(..), _) => Err(Errno(libc::EPERM)),
        // From one tree to the other, as between two file systems.
        (Route::Disk(_), _) | (_, Route::Disk(_)) => Err(Errno(libc::EXDEV)),
        _ => changes(world, call, from),
    }
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
        mode,
    }
}

/// # Safety
/// `path` is a C string, or null.
unsafe fn open(world: &'static World, dir: i64, path: i64, flags: i32, mode: u32) -> Answer<i64> {
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
fn sync(world: &'static World) -> Answer<i64> {
    if !world.actor_lives() {
        return Ok(0);
    }
    with_volume(world, |volume| volume.sync_all());
    Ok(0)
}

fn owner(user: i64, group: i64) -> Change {
    let given = |id: i64| (id as i32 != -1).then_some(id as u32);
    Change::Owner(given(user), given(group))
}

/// What utimensat(2) means by two times; `None` if nothing is to be changed.
///
/// # Safety
/// `at` is the address of two timespecs, or 0.
unsafe fn times(at: i64) -> Answer<Option<Change>> {
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
unsafe fn put_stat(world: &'static World, op: Op, out: i64) -> Answer<i64> {
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
unsafe fn put_statx(world: &'static World, op: Op, out: i64) -> Answer<i64> {
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
unsafe fn put_system(world: &'static World, out: i64) -> Answer<i64> {
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
unsafe fn copy(world: &'static World, args: [i64; 6], files_only: bool) -> Option<Answer<i64>> {
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
                    into.write_bytes(world, at.map(|at| at as u64), bytes).map(|n| n as i64)
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
