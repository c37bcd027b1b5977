//! System calls about names: each path is the disk's, an open file's or the kernel's, as [`route`] says, and what would change
//! the kernel's part of the tree ends the run as escaped.

use super::calls::{
    AT_CWD, CHMODAT, NO_FOLLOW, Route, changes, description, file_of, number_in, open, owner, put_stat, put_statx,
    put_system, reads, route, sync, text, times,
};
use super::{done, go_to, hold_dir, perform, set_umask, umask, with_volume, working_dir};
use crate::descriptors::{Answer, Errno};
use sim_core::World;
use sim_disk::{Change, FileId, Op, Reply, Taken};

/// A system call, as the kernel is given it.
struct Call {
    world: &'static World,
    number: i64,
    args: [i64; 6],
}

/// Calls about names; `None` if the kernel is to answer.
///
/// # Safety
/// The arguments are those of the system call of that number.
pub(super) unsafe fn about_path(world: &'static World, number: i64, args: [i64; 6]) -> Option<Answer<i64>> {
    let call = Call { world, number, args };
    // SAFETY: the caller's promise. A number is known to one of them at most.
    unsafe {
        let named = call.opens().or_else(|| call.looks()).or_else(|| call.names());
        named.or_else(|| call.marks()).or_else(|| call.of_process())
    }
}

fn is_a_name(_: FileId, _: &[u8]) -> Answer<i64> {
    Err(Errno(libc::EPERM))
}

impl Call {
    /// A call about one path, which stands at place `at` of the arguments: what the disk makes of it, what a file that is open,
    /// and the name of the change if the kernel must not have it.
    ///
    /// # Safety
    /// `path` is a C string, or null.
    #[expect(clippy::too_many_arguments, reason = "each call differs in all of them")]
    unsafe fn one(
        &self,
        dir: i64,
        path: i64,
        follow: bool,
        at: usize,
        changes_as: Option<&str>,
        disk: &dyn Fn(Vec<u8>) -> Answer<i64>,
        open: &dyn Fn(FileId, &[u8]) -> Answer<i64>,
    ) -> Option<Answer<i64>> {
        let Call { world, number, args } = *self;
        // SAFETY: the caller's promise, and that about the call itself.
        unsafe {
            match text(path).and_then(|path| route(world, dir, path, follow)) {
                Err(error) => Some(Err(error)),
                Ok(Route::Disk(path)) => Some(disk(path)),
                Ok(Route::Open(id, path)) => Some(open(id, &path)),
                Ok(Route::Kernel(path)) => Some(match changes_as {
                    Some(call) => changes(world, call, &path),
                    None => reads(number, args, at, &path),
                }),
                Ok(Route::Elsewhere) => changes_as.map(|call| text(path).and_then(|path| changes(world, call, path))),
            }
        }
    }

    /// open(2) and openat2(2).
    ///
    /// # Safety
    /// As [`about_path`].
    unsafe fn opens(&self) -> Option<Answer<i64>> {
        let Call { world, number, args: [a, b, c, d, _, _] } = *self;
        // SAFETY: the caller's promise; the casts follow the calls' signatures.
        unsafe {
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
                _ => None,
            }
        }
    }

    /// Calls that ask what a path names.
    ///
    /// # Safety
    /// As [`about_path`].
    unsafe fn looks(&self) -> Option<Answer<i64>> {
        let Call { world, number, args: [a, b, c, d, e, _] } = *self;
        // SAFETY: the caller's promise; the casts follow the calls' signatures.
        unsafe {
            match number {
                libc::SYS_newfstatat => {
                    let follow = d as i32 & NO_FOLLOW == 0;
                    self.one(
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
                    self.one(
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
                    self.one(a, b, follow, 1, None, &|path| done(world, Op::Access(path, wanted, follow)), &|_, _| {
                        Ok(0)
                    })
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
                    self.one(a, b, false, 1, None, &read, &|_, path| put(path))
                }
                libc::SYS_statfs => {
                    self.one(AT_CWD, a, true, 0, None, &|_| put_system(world, b), &|_, _| put_system(world, b))
                }
                libc::SYS_getxattr | libc::SYS_lgetxattr | libc::SYS_listxattr | libc::SYS_llistxattr => {
                    let none = |_| Err(Errno(libc::EOPNOTSUPP));
                    self.one(AT_CWD, a, true, 0, None, &none, &|_, _| Err(Errno(libc::EOPNOTSUPP)))
                }
                _ => None,
            }
        }
    }

    /// Calls that make, move and remove names.
    ///
    /// # Safety
    /// As [`about_path`].
    unsafe fn names(&self) -> Option<Answer<i64>> {
        let Call { world, number, args: [a, b, c, d, e, _] } = *self;
        // SAFETY: the caller's promise; the casts follow the calls' signatures.
        unsafe {
            match number {
                libc::SYS_unlinkat => {
                    let is_dir = c as i32 & libc::AT_REMOVEDIR != 0;
                    let call = if is_dir { "rmdir" } else { "unlink" };
                    let remove = |path| done(world, if is_dir { Op::RemoveDir(path) } else { Op::RemoveFile(path) });
                    self.one(a, b, false, 1, Some(call), &remove, &is_a_name)
                }
                libc::SYS_mkdirat => {
                    let make = |path| done(world, Op::CreateDir(path, c as u32 & !umask(world)));
                    self.one(a, b, false, 1, Some("mkdir"), &make, &is_a_name)
                }
                libc::SYS_symlinkat if text(a).is_ok_and(<[u8]>::is_empty) => Some(Err(Errno(libc::ENOENT))),
                libc::SYS_symlinkat => {
                    let make = |path| done(world, Op::CreateLink(text(a)?.to_vec(), path));
                    self.one(b, c, false, 2, Some("symlink"), &make, &is_a_name)
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
                libc::SYS_mknodat => Some(text(b).and_then(|path| changes(world, "mknod", path))),
                _ => None,
            }
        }
    }

    /// Calls that change what a path names: permissions, owner, times, length.
    ///
    /// # Safety
    /// As [`about_path`].
    unsafe fn marks(&self) -> Option<Answer<i64>> {
        let Call { world, number, args: [a, b, c, d, e, _] } = *self;
        // SAFETY: the caller's promise; the casts follow the calls' signatures.
        unsafe {
            match number {
                CHMODAT => {
                    let follow = d as i32 & NO_FOLLOW == 0;
                    let change = Change::Mode(c as u32);
                    self.one(
                        a,
                        b,
                        follow,
                        1,
                        Some("chmod"),
                        &|path| done(world, Op::Change(path, change, follow)),
                        &|id, _| done(world, Op::ChangeFile(id, change)),
                    )
                }
                libc::SYS_fchownat => {
                    let (follow, change) = (e as i32 & NO_FOLLOW == 0, owner(c, d));
                    self.one(
                        a,
                        b,
                        follow,
                        1,
                        Some("chown"),
                        &|path| done(world, Op::Change(path, change, follow)),
                        &|id, _| done(world, Op::ChangeFile(id, change)),
                    )
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
                            return self.one(a, b, follow, 1, Some("utimensat"), &found, &|_, _| Err(error));
                        }
                    };
                    self.one(
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
                    let cut = |path| done(world, Op::Truncate(path, len));
                    self.one(AT_CWD, a, true, 0, Some("truncate"), &cut, &|id, _| done(world, Op::SetLen(id, len)))
                }
                libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_removexattr | libc::SYS_lremovexattr => {
                    Some(Err(Errno(libc::EOPNOTSUPP)))
                }
                _ => None,
            }
        }
    }

    /// Calls about what a process keeps: where it is, its umask; and what a run has not at all.
    ///
    /// # Safety
    /// As [`about_path`].
    unsafe fn of_process(&self) -> Option<Answer<i64>> {
        let Call { world, number, args: [a, b, _, _, _, _] } = *self;
        // SAFETY: the caller's promise; the casts follow the calls' signatures.
        unsafe {
            match number {
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
                    self.one(AT_CWD, a, true, 0, Some("chdir"), &go, &|_, _| Err(Errno(libc::ENOTDIR)))
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
                libc::SYS_chroot => Some(text(a).and_then(|path| changes(world, "chroot", path))),
                libc::SYS_memfd_create => Some(text(a).and_then(|name| changes(world, "memfd_create", name))),
                libc::SYS_inotify_init | libc::SYS_inotify_init1 | libc::SYS_fanotify_init => {
                    Some(changes(world, "inotify_init", b"changes of files"))
                }
                _ => None,
            }
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
