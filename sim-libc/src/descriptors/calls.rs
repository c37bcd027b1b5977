//! System calls on descriptors, each one in the kernel's convention, whatever door it comes in by: libc's name for it,
//! `syscall(2)`, or a bare instruction.

use super::epoll::{self, Epoll};
use super::eventfd::EventFd;
use super::poll::{self, Watched};
use super::stat;
use super::timerfd::TimerFd;
use super::{Answer, Description, Descriptors, Errno, KernelNumber, Object, Owner, number};
use crate::interpose::escape;
use crate::{raw, sockets, threads};
use libc::{iovec, timespec, timeval};
use sim_core::World;
use std::io::{IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

/// As many buffers as a call takes (`UIO_MAXIOV`).
const MOST_PARTS: usize = 1024;
const ACCESS: i32 = libc::O_ACCMODE;
const DUPLICATES: [i32; 2] = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC];
const LOCKS: [i32; 5] = [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK, libc::F_OFD_SETLKW, libc::F_SETLEASE];
/// What F_SETFL changes.
const CHANGEABLE: i32 = libc::O_NONBLOCK | libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME;

/// What the run answers to a system call; `None` if the call is the kernel's.
///
/// # Safety
/// The arguments are those of the system call of that number.
pub(crate) unsafe fn answer(world: &'static World, number: i64, args: [i64; 6]) -> Option<i64> {
    // SAFETY: the caller's promise.
    unsafe { answer_here(world, number, args) }
}

/// The same as part of the caller, who knows the number.
///
/// # Safety
/// As [`answer`].
#[inline(always)]
pub(super) unsafe fn answer_here(world: &'static World, number: i64, args: [i64; 6]) -> Option<i64> {
    let [a, b, c, d, e, f] = args;
    let fd = a as i32;
    // SAFETY: the caller's promise; the casts follow the calls' signatures.
    unsafe {
        Some(match number {
            libc::SYS_read => on(ours(world, number, args)?, |own| read(world, own, buffer(b, c)?, None)),
            // Who waits for it is as dead, and destructors that wake it cannot live with an error.
            libc::SYS_write if !world.actor_lives() && Descriptors::of(world).has_counter(world, fd) => c,
            libc::SYS_write => on(ours(world, number, args)?, |own| write(world, own, buffer(b, c)?, None)),
            libc::SYS_readv => on(ours(world, number, args)?, |own| read(world, own, parts(b, c)?, None)),
            libc::SYS_writev => on(ours(world, number, args)?, |own| write(world, own, parts(b, c)?, None)),
            // Looked at before the descriptor is.
            libc::SYS_preadv | libc::SYS_pwritev if d < 0 => -libc::EINVAL as i64,
            libc::SYS_preadv | libc::SYS_preadv2 => on(ours(world, number, args)?, |own| {
                read(world, own, parts(b, c)?, place(number == libc::SYS_preadv2, d, f)?)
            }),
            libc::SYS_pwritev | libc::SYS_pwritev2 => on(ours(world, number, args)?, |own| {
                write(world, own, parts(b, c)?, place(number == libc::SYS_pwritev2, d, f)?)
            }),
            // Looked at before the descriptor is.
            libc::SYS_pread64 | libc::SYS_pwrite64 if d < 0 => -libc::EINVAL as i64,
            libc::SYS_pread64 => on(ours(world, number, args)?, |own| read(world, own, buffer(b, c)?, Some(d as u64))),
            libc::SYS_pwrite64 => {
                on(ours(world, number, args)?, |own| write(world, own, buffer(b, c)?, Some(d as u64)))
            }
            libc::SYS_close => {
                match Descriptors::of(world).owner(world, fd) {
                    Owner::Kernel => {
                        Descriptors::of(world).given.borrow_mut().remove(&fd);
                        return None;
                    }
                    Owner::Run(_) | Owner::Nobody => {}
                }
                of(Descriptors::of(world).close(world, fd).map(|()| 0))
            }
            libc::SYS_close_range => return Some(close_range(world, a as u32, b as u32, c as u32)),
            // What the kernel gives out goes to where the run's numbers are not.
            libc::SYS_dup if is_kernels(world, fd) => Descriptors::of(world).give(raw::call(number, args)),
            libc::SYS_fcntl if is_kernels(world, fd) && DUPLICATES.contains(&(b as i32)) => {
                Descriptors::of(world).give(raw::call(number, args))
            }
            libc::SYS_dup => {
                on(ours(world, number, args)?, |own| Descriptors::of(world).assign(world, own.clone(), 0, false))
            }
            libc::SYS_dup2 | libc::SYS_dup3 => {
                let flags = if number == libc::SYS_dup3 { c as i32 } else { 0 };
                return duplicate_to(world, fd, b as i32, number == libc::SYS_dup3, flags);
            }
            libc::SYS_fcntl if b as i32 == libc::F_GETFD && !world.actor_lives() && is_own(world, fd) => 0,
            // Locks there are every process's of the machine.
            libc::SYS_fcntl if LOCKS.contains(&(b as i32)) && is_real(world, fd) => {
                escape(world, format!("fcntl(/proc/self/fd/{fd}), a lock"));
                -libc::EPERM as i64
            }
            libc::SYS_fcntl => on(ours(world, number, args)?, |own| control(world, fd, own, b as i32, c)),
            libc::SYS_ioctl if [libc::FIOCLEX, libc::FIONCLEX].contains(&(b as u64)) => {
                on(ours(world, number, args)?, |_| {
                    let changed = Descriptors::of(world).close_on_exec(fd, Some(b as u64 == libc::FIOCLEX));
                    changed.map(|_| 0)
                })
            }
            libc::SYS_ioctl => on(ours(world, number, args)?, |own| ioctl(own, b as u64, c as *mut i32)),
            libc::SYS_eventfd | libc::SYS_eventfd2 => {
                let flags = if number == libc::SYS_eventfd2 { b as i32 } else { 0 };
                of(new_eventfd(world, a as u32, flags))
            }
            libc::SYS_timerfd_create => of(new_timer(world, fd, b as i32)),
            libc::SYS_timerfd_settime => {
                on(ours(world, number, args)?, |own| set_timer(world, own, b as i32, c as *const _, d as *mut _))
            }
            libc::SYS_timerfd_gettime => on(ours(world, number, args)?, |own| get_timer(own, b as *mut _)),
            libc::SYS_epoll_create if fd <= 0 => -libc::EINVAL as i64,
            libc::SYS_epoll_create => of(new_epoll(world, 0)),
            libc::SYS_epoll_create1 => of(new_epoll(world, fd)),
            libc::SYS_epoll_ctl => {
                on(ours(world, number, args)?, |own| epoll_control(world, own, b as i32, c as i32, d as *const _))
            }
            // A mask of signals changes nothing: none comes while a run waits.
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => {
                let timeout = u64::try_from(d as i32).ok().map(Duration::from_millis);
                on(ours(world, number, args)?, |own| epoll_wait(world, own, b as *mut _, c as i32, timeout))
            }
            libc::SYS_epoll_pwait2 => on(ours(world, number, args)?, |own| {
                epoll_wait(world, own, b as *mut _, c as i32, time_given(d as *const timespec)?)
            }),
            libc::SYS_poll => {
                let timeout = u64::try_from(c as i32).ok().map(Duration::from_millis);
                of(poll_these(world, a as *mut _, b as u64, timeout))
            }
            libc::SYS_ppoll => {
                of(time_given(c as *const timespec)
                    .and_then(|timeout| poll_these(world, a as *mut _, b as u64, timeout)))
            }
            libc::SYS_select => {
                let time = (e as *const timeval).as_ref();
                let timeout = match time {
                    None => Ok(None),
                    Some(t) if t.tv_sec < 0 || t.tv_usec < 0 => Err(Errno::INVALID),
                    Some(t) => Ok(Some(
                        Duration::from_secs(t.tv_sec as u64).saturating_add(Duration::from_micros(t.tv_usec as u64)),
                    )),
                };
                of(timeout.and_then(|t| select(world, fd, [b as *mut u64, c as *mut u64, d as *mut u64], t)))
            }
            libc::SYS_pselect6 => of(time_given(e as *const timespec)
                .and_then(|t| select(world, fd, [b as *mut u64, c as *mut u64, d as *mut u64], t))),
            libc::SYS_lseek => on(ours(world, number, args)?, |_| Err::<i64, _>(Errno(libc::ESPIPE))),
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_ftruncate => {
                on(ours(world, number, args)?, |_| Err::<i64, _>(Errno::INVALID))
            }
            libc::SYS_fstat => on(ours(world, number, args)?, |own| stat::put(own, b)),
            libc::SYS_newfstatat if names_itself(b, d) => on(ours(world, number, args)?, |own| stat::put(own, c)),
            libc::SYS_statx if names_itself(b, c) => on(ours(world, number, args)?, |own| stat::put_extended(own, e)),
            // Of these only the kernel's files are left: no number of the run's may reach the kernel.
            libc::SYS_utimensat if b != 0 => return None,
            libc::SYS_getdents64
            | libc::SYS_getdents
            | libc::SYS_fchdir
            | libc::SYS_fstatfs
            | libc::SYS_syncfs
            | libc::SYS_sync_file_range
            | libc::SYS_fadvise64
            | libc::SYS_readahead
            | libc::SYS_fallocate
            | libc::SYS_fchmod
            | libc::SYS_fchown
            | libc::SYS_utimensat
            | libc::SYS_flock
            | libc::SYS_fgetxattr
            | libc::SYS_fsetxattr
            | libc::SYS_flistxattr
            | libc::SYS_fremovexattr => on(ours(world, number, args)?, |_| Err::<i64, _>(no_file(number))),
            libc::SYS_mmap if d as i32 & libc::MAP_ANONYMOUS == 0 => {
                match Descriptors::of(world).owner(world, e as i32) {
                    Owner::Kernel => return None,
                    Owner::Nobody => -libc::EBADF as i64,
                    Owner::Run(own) => match &own.object {
                        Object::Kernel(real) => raw::call(number, [a, b, c, d, real.get(), f]),
                        _ => -libc::ENODEV as i64,
                    },
                }
            }
            // Callers go on with read and write.
            libc::SYS_splice | libc::SYS_tee | libc::SYS_vmsplice => {
                let other = if number == libc::SYS_splice { c as i32 } else { b as i32 };
                let both = if number == libc::SYS_vmsplice { [fd, fd] } else { [fd, other] };
                let owners = both.map(|fd| Descriptors::of(world).owner(world, fd));
                match owners {
                    [Owner::Nobody, _] | [_, Owner::Nobody] => -libc::EBADF as i64,
                    [Owner::Kernel, Owner::Kernel] => return None,
                    _ => -libc::EINVAL as i64,
                }
            }
            libc::SYS_signalfd | libc::SYS_signalfd4 => {
                escape(world, "signalfd".into());
                -libc::EPERM as i64
            }
            _ => return sockets::calls::answer(world, number, args),
        })
    }
}

/// Whether a call about a path is about the descriptor that it begins at.
///
/// # Safety
/// `path` is a C string, or null.
unsafe fn names_itself(path: i64, flags: i64) -> bool {
    // SAFETY: the caller's promise.
    flags as i32 & libc::AT_EMPTY_PATH != 0 && (path == 0 || unsafe { (path as *const u8).read() } == 0)
}

/// What a call about files says to a socket, a pipe or an event.
fn no_file(number: i64) -> Errno {
    Errno(match number {
        libc::SYS_getdents64 | libc::SYS_getdents | libc::SYS_fchdir => libc::ENOTDIR,
        libc::SYS_sync_file_range | libc::SYS_fadvise64 => libc::ESPIPE,
        libc::SYS_readahead => libc::EINVAL,
        libc::SYS_fallocate => libc::ENODEV,
        _ => libc::EOPNOTSUPP,
    })
}

fn is_kernels(world: &World, fd: i32) -> bool {
    matches!(Descriptors::of(world).owner(world, fd), Owner::Kernel)
}

/// Whether the kernel has something open behind this number.
pub(crate) fn is_real(world: &World, fd: i32) -> bool {
    match Descriptors::of(world).owner(world, fd) {
        Owner::Kernel => poll::is_open(fd),
        Owner::Run(own) => matches!(own.object, Object::Kernel(_)),
        Owner::Nobody => false,
    }
}

fn is_own(world: &World, fd: i32) -> bool {
    Descriptors::of(world).has(world, fd)
}

pub(crate) fn of(answer: Answer<i64>) -> i64 {
    number(answer)
}

/// The description behind the first argument, or the call's result if that is known already; `None` if the call is the
/// kernel's. What `dup2` moved is the kernel's after all: the call is made here, under the number that the kernel knows.
///
/// # Safety
/// As the system call.
#[inline]
pub(crate) unsafe fn ours(world: &World, number: i64, mut args: [i64; 6]) -> Option<Result<Rc<Description>, i64>> {
    match Descriptors::of(world).owner(world, args[0] as i32) {
        Owner::Run(own) => {
            if let Object::Kernel(KernelNumber(real)) = &own.object {
                args[0] = *real as i64;
                // SAFETY: the caller's promise.
                return Some(Err(unsafe { raw::call(number, args) }));
            }
            Some(Ok(own))
        }
        Owner::Kernel => None,
        Owner::Nobody => Some(Err(-libc::EBADF as i64)),
    }
}

/// A call on what [`ours`] found.
#[inline]
pub(crate) fn on<T: TryInto<i64>>(
    own: Result<Rc<Description>, i64>,
    f: impl FnOnce(&Rc<Description>) -> Answer<T>,
) -> i64 {
    match own {
        Ok(own) => number(f(&own)),
        Err(result) => result,
    }
}

// ---- bytes ------------------------------------------------------------------------------------------------------------

/// One buffer as a list of buffers.
unsafe fn buffer(at: i64, len: i64) -> Answer<Parts> {
    if at == 0 && len != 0 {
        return Err(Errno::FAULT);
    }
    // The kernel moves at most so much at once (man 2 read).
    let len = (len as usize).min(0x7fff_f000);
    Ok(Parts::One(iovec { iov_base: at as *mut _, iov_len: len }))
}

/// The buffers that a program listed.
pub(crate) unsafe fn parts(at: i64, count: i64) -> Answer<Parts> {
    if !(0..=MOST_PARTS as i64).contains(&count) {
        return Err(Errno::INVALID);
    }
    if count == 0 {
        return Ok(Parts::Many(Vec::new()));
    }
    if at == 0 {
        return Err(Errno::FAULT);
    }
    // SAFETY: the caller's promise: `count` descriptions of buffers.
    let given = unsafe { std::slice::from_raw_parts(at as *const iovec, count as usize) };
    let kept: Vec<iovec> = given.iter().copied().filter(|part| part.iov_len > 0).collect();
    match kept.iter().any(|part| part.iov_base.is_null()) {
        true => Err(Errno::FAULT),
        false => Ok(Parts::Many(kept)),
    }
}

/// Buffers of a program. Empty ones of several are left out.
pub(crate) enum Parts {
    One(iovec),
    Many(Vec<iovec>),
}

impl Parts {
    fn list(&mut self) -> &mut [iovec] {
        match self {
            Parts::One(part) if part.iov_len == 0 => &mut [],
            Parts::One(part) => std::slice::from_mut(part),
            Parts::Many(parts) => parts,
        }
    }

    /// To be read from.
    ///
    /// # Safety
    /// Each is valid for reads.
    pub(crate) unsafe fn as_slices(&mut self) -> &[IoSlice<'_>] {
        let list = self.list();
        // SAFETY: an IoSlice has the layout of an iovec, as its documentation promises; no part that is kept is null.
        unsafe { std::slice::from_raw_parts(list.as_ptr().cast(), list.len()) }
    }

    /// To be written to.
    ///
    /// # Safety
    /// Each is valid for writes, and nobody else uses it meanwhile.
    pub(crate) unsafe fn as_slices_mut(&mut self) -> &mut [IoSliceMut<'_>] {
        let list = self.list();
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(list.as_mut_ptr().cast(), list.len()) }
    }
}

/// Where a call with an offset reads or writes: the newer ones (`takes_flags`) take -1 for where the description stands.
fn place(takes_flags: bool, at: i64, flags: i64) -> Answer<Option<u64>> {
    // A file system may support all flags, or none: this one lets a request be urgent, which changes nothing (preadv2(2)).
    if takes_flags && flags as i32 & !libc::RWF_HIPRI != 0 {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    match at {
        -1 if takes_flags => Ok(None),
        at => u64::try_from(at).map(Some).map_err(|_| Errno::INVALID),
    }
}

unsafe fn read(world: &'static World, own: &Description, mut parts: Parts, at: Option<u64>) -> Answer<usize> {
    if own.status.get() & ACCESS == libc::O_WRONLY {
        return Err(Errno::BAD);
    }
    let listed = matches!(parts, Parts::Many(_));
    // SAFETY: the caller's promise.
    let into = unsafe { parts.as_slices_mut() };
    // As for a write.
    if listed && into.is_empty() && !matches!(own.object, Object::Epoll(_)) {
        return Ok(0);
    }
    if let Object::Other(other) = &own.object {
        return other.read(own, at, into);
    }
    if at.is_some() {
        return Err(Errno(libc::ESPIPE));
    }
    match &own.object {
        Object::Socket(socket) => {
            // A read of nothing waits for nothing.
            if into.is_empty() {
                return Ok(0);
            }
            socket.receive(own, world, into, 0, &mut sockets::Besides::default())
        }
        Object::Pipe(_) if into.is_empty() => Ok(0),
        Object::Pipe(pipe) => pipe.read(own, into),
        Object::EventFd(eventfd) => {
            room_for_a_number(into)?;
            eventfd.read(own).map(|count| put_number(count, into))
        }
        Object::Timer(timer) => {
            room_for_a_number(into)?;
            timer.read(own).map(|count| put_number(count, into))
        }
        Object::Epoll(_) | Object::Kernel(_) | Object::Other(_) => Err(Errno::INVALID),
    }
}

fn room_for_a_number(into: &[IoSliceMut<'_>]) -> Answer<()> {
    if into.iter().map(|part| part.len()).sum::<usize>() < 8 { Err(Errno::INVALID) } else { Ok(()) }
}

fn put_number(number: u64, into: &mut [IoSliceMut<'_>]) -> usize {
    let places = into.iter_mut().flat_map(|part| part.iter_mut());
    places.zip(number.to_ne_bytes()).for_each(|(place, byte)| *place = byte);
    8
}

unsafe fn write(world: &'static World, own: &Description, mut parts: Parts, at: Option<u64>) -> Answer<usize> {
    if own.status.get() & ACCESS == libc::O_RDONLY {
        return Err(Errno::BAD);
    }
    let listed = matches!(parts, Parts::Many(_));
    // SAFETY: the caller's promise.
    let from = unsafe { parts.as_slices() };
    // A list of nothing writes nothing, whatever it is (Linux, vfs_writev()).
    if listed && from.is_empty() && !matches!(own.object, Object::Epoll(_) | Object::Timer(_)) {
        return Ok(0);
    }
    if let Object::Other(other) = &own.object {
        return other.write(own, at, from);
    }
    if at.is_some() {
        return Err(Errno(libc::ESPIPE));
    }
    match &own.object {
        Object::Socket(socket) => socket.send(own, world, from, 0, None),
        Object::Pipe(_) if from.is_empty() => Ok(0),
        Object::Pipe(pipe) => pipe.write(own, from),
        // Each part is a write of its own (Linux, do_loop_readv_writev()).
        Object::EventFd(eventfd) => {
            let mut sum = 0;
            for part in from {
                let number = <[u8; 8]>::try_from(&**part).map(u64::from_ne_bytes).map_err(|_| Errno::INVALID);
                match number.and_then(|number| eventfd.write(own, number)) {
                    Ok(()) => sum += 8,
                    Err(errno) if sum == 0 => return Err(errno),
                    Err(_) => break,
                }
            }
            if from.is_empty() { Err(Errno::INVALID) } else { Ok(sum) }
        }
        Object::Timer(_) | Object::Epoll(_) | Object::Kernel(_) | Object::Other(_) => Err(Errno::INVALID),
    }
}

// ---- numbers ----------------------------------------------------------------------------------------------------------

/// A number for `number` of the kernel that the run keeps as its own.
fn adopt(number: i32) -> Answer<Object> {
    // SAFETY: F_DUPFD takes numbers only.
    let command = libc::F_DUPFD_CLOEXEC as i64;
    let moved = unsafe { raw::call(libc::SYS_fcntl, [number as i64, command, super::KERNEL_FROM as i64, 0, 0, 0]) };
    if moved < 0 { Err(Errno(-moved as i32)) } else { Ok(Object::Kernel(KernelNumber(moved as i32))) }
}

fn duplicate_to(world: &World, from: i32, to: i32, must_differ: bool, flags: i32) -> Option<i64> {
    let descriptors = Descriptors::of(world);
    let owner = descriptors.owner(world, from);
    let is_ours = |n: i32| !matches!(descriptors.owner(world, n), Owner::Kernel);
    if let (Owner::Kernel, false) = (&owner, is_ours(to)) {
        return None;
    }
    let answer = || {
        if flags & !libc::O_CLOEXEC != 0 || (must_differ && from == to) {
            return Err(Errno::INVALID);
        }
        let description = match owner {
            Owner::Run(description) => description,
            Owner::Kernel => descriptors.open(adopt(from)?, libc::O_RDWR),
            Owner::Nobody => return Err(Errno::BAD),
        };
        if !world.actor_lives() {
            return Err(Errno::BAD);
        }
        if from != to {
            descriptors.replace(world, to, description, flags & libc::O_CLOEXEC != 0)?;
        }
        Ok(to as i64)
    };
    Some(of(answer()))
}

fn close_range(world: &World, from: u32, to: u32, flags: u32) -> i64 {
    const CLOSE_ON_EXEC: u32 = 1 << 2;
    if from > to || flags & !(CLOSE_ON_EXEC | 1 << 1) != 0 {
        return -libc::EINVAL as i64;
    }
    let descriptors = Descriptors::of(world);
    for number in descriptors.numbers_in(from as usize, to as usize) {
        // Numbers of a dead incarnation's own may go, others stay: as for close.
        let _not_its_own = match flags & CLOSE_ON_EXEC {
            0 => descriptors.close(world, number),
            _ => descriptors.close_on_exec(number, Some(true)).map(|_| ()),
        };
    }
    // Of the kernel's numbers those that programs were given: the simulator's lie among the others.
    for number in descriptors.given_in(from, to) {
        let [fd, command, flag] = [number, libc::F_SETFD, libc::FD_CLOEXEC].map(i64::from);
        // SAFETY: numbers only, of a descriptor that is the program's.
        unsafe {
            if flags & CLOSE_ON_EXEC != 0 {
                raw::call(libc::SYS_fcntl, [fd, command, flag, 0, 0, 0]);
                continue;
            }
            raw::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        }
        descriptors.given.borrow_mut().remove(&number);
    }
    0
}

fn control(world: &World, fd: i32, own: &Rc<Description>, command: i32, argument: i64) -> Answer<i64> {
    let descriptors = Descriptors::of(world);
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let from = i32::try_from(argument).ok().filter(|n| (0..=super::LAST).contains(n)).ok_or(Errno::INVALID)?;
            let made = descriptors.assign(world, own.clone(), from, command == libc::F_DUPFD_CLOEXEC)?;
            Ok(made as i64)
        }
        libc::F_GETFD => Ok(descriptors.close_on_exec(fd, None)? as i64 * libc::FD_CLOEXEC as i64),
        libc::F_SETFD => {
            descriptors.close_on_exec(fd, Some(argument as i32 & libc::FD_CLOEXEC != 0))?;
            Ok(0)
        }
        libc::F_GETFL => Ok(own.status.get() as i64),
        libc::F_SETFL => {
            own.status.set(own.status.get() & !CHANGEABLE | argument as i32 & CHANGEABLE);
            Ok(0)
        }
        libc::F_GETOWN => Ok(0),
        _ => match &own.object {
            Object::Other(other) => other.control(own, command, argument).unwrap_or(Err(Errno::INVALID)),
            Object::Pipe(pipe) => pipe.control(command, argument),
            _ if [libc::F_GETPIPE_SZ, libc::F_SETPIPE_SZ].contains(&command) => Err(Errno::BAD),
            _ => Err(Errno::INVALID),
        },
    }
}

unsafe fn ioctl(own: &Description, request: u64, argument: *mut i32) -> Answer<i64> {
    let place = || {
        // SAFETY: the caller's promise: these requests take the address of a number.
        unsafe { argument.as_mut() }.ok_or(Errno::FAULT)
    };
    match request {
        libc::FIONBIO => {
            let on = if *place()? != 0 { libc::O_NONBLOCK } else { 0 };
            own.status.set(own.status.get() & !libc::O_NONBLOCK | on);
            Ok(0)
        }
        libc::FIONREAD => {
            let unread = match &own.object {
                Object::Socket(socket) => socket.unread()?,
                Object::Pipe(pipe) => pipe.unread()?,
                Object::Epoll(_) => return Err(Errno::INVALID),
                Object::Other(other) => other.unread()?,
                _ => return Err(Errno(libc::ENOTTY)),
            };
            *place()? = i32::try_from(unread).unwrap_or(i32::MAX);
            Ok(0)
        }
        _ => Err(Errno(libc::ENOTTY)),
    }
}

// ---- events -----------------------------------------------------------------------------------------------------------

fn new_eventfd(world: &World, count: u32, flags: i32) -> Answer<i64> {
    if flags & !(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE) != 0 {
        return Err(Errno::INVALID);
    }
    let eventfd = EventFd::new(count, flags & libc::EFD_SEMAPHORE != 0);
    add(world, Object::EventFd(eventfd), flags, libc::O_RDWR)
}

/// A new description with the flags that all calls which make one share.
pub(crate) fn add(world: &World, object: Object, flags: i32, access: i32) -> Answer<i64> {
    if !world.actor_lives() {
        return Err(Errno(libc::EMFILE));
    }
    let status = access | flags & libc::O_NONBLOCK;
    Ok(Descriptors::of(world).add(world, object, status, flags & libc::O_CLOEXEC != 0)? as i64)
}

fn new_epoll(world: &World, flags: i32) -> Answer<i64> {
    if flags & !libc::EPOLL_CLOEXEC != 0 {
        return Err(Errno::INVALID);
    }
    add(world, Object::Epoll(Epoll::default()), flags, libc::O_RDWR)
}

unsafe fn epoll_control(
    world: &World,
    own: &Rc<Description>,
    operation: i32,
    fd: i32,
    event: *const libc::epoll_event,
) -> Answer<i64> {
    // SAFETY: the caller's promise; the struct is packed.
    let event = if event.is_null() { None } else { Some(unsafe { event.read_unaligned() }) };
    if event.is_none() && operation != libc::EPOLL_CTL_DEL {
        return Err(Errno::FAULT);
    }
    let target = match Descriptors::of(world).owner(world, fd) {
        Owner::Run(target) => target,
        // What a run has of the kernel's are files: epoll does not take them.
        Owner::Kernel if poll::is_open(fd) => return Err(Errno(libc::EPERM)),
        Owner::Kernel | Owner::Nobody => return Err(Errno::BAD),
    };
    Epoll::control(own, operation, fd, &target, event).map(|()| 0)
}

unsafe fn epoll_wait(
    world: &'static World,
    own: &Rc<Description>,
    out: *mut libc::epoll_event,
    room: i32,
    timeout: Option<Duration>,
) -> Answer<i64> {
    const MOST: usize = i32::MAX as usize / size_of::<libc::epoll_event>();
    let room = usize::try_from(room).ok().filter(|n| (1..=MOST).contains(n)).ok_or(Errno::INVALID)?;
    if out.is_null() {
        return Err(Errno::FAULT);
    }
    let mut next = out;
    let given = epoll::wait(world, own, room, timeout, &mut |event| {
        // SAFETY: the caller's promise: room for `room` events, of which there are no more.
        unsafe {
            next.write_unaligned(event);
            next = next.add(1);
        }
    })?;
    Ok(given as i64)
}

/// The timeout that a call was given; none is for ever.
unsafe fn time_given(at: *const timespec) -> Answer<Option<Duration>> {
    // SAFETY: the caller's promise: a timespec, or null.
    match unsafe { at.as_ref() } {
        None => Ok(None),
        Some(t) if t.tv_sec < 0 || !(0..1_000_000_000).contains(&t.tv_nsec) => Err(Errno::INVALID),
        Some(t) => Ok(Some(Duration::new(t.tv_sec as u64, t.tv_nsec as u32))),
    }
}

unsafe fn poll_these(
    world: &'static World,
    list: *mut libc::pollfd,
    count: u64,
    timeout: Option<Duration>,
) -> Answer<i64> {
    if count > super::KERNEL_FROM as u64 {
        return Err(Errno::INVALID);
    }
    let list = match count {
        0 => &mut [],
        _ if list.is_null() => return Err(Errno::FAULT),
        // SAFETY: the caller's promise.
        _ => unsafe { std::slice::from_raw_parts_mut(list, count as usize) },
    };
    let watched: Vec<Watched> = list.iter().map(|p| Watched::new(world, p.fd, p.events)).collect();
    poll::wait(world, &watched, timeout);
    let mut ready = 0;
    for (place, watched) in list.iter_mut().zip(&watched) {
        place.revents = watched.ready();
        ready += (place.revents != 0) as i64;
    }
    Ok(ready)
}

/// Sets of numbers as `select` has them: to read, to write, with exceptions.
unsafe fn select(world: &'static World, count: i32, sets: [*mut u64; 3], timeout: Option<Duration>) -> Answer<i64> {
    let count = usize::try_from(count).map_err(|_| Errno::INVALID)?.min(libc::FD_SETSIZE);
    let words = count.div_ceil(64);
    // What each set asks of poll, and which answers put a number into it (fs/select.c).
    const ASKS: [i16; 3] = [libc::POLLIN | libc::POLLRDNORM, libc::POLLOUT | libc::POLLWRNORM, libc::POLLPRI];
    const TAKES: [i16; 3] = [
        libc::POLLIN | libc::POLLRDNORM | libc::POLLHUP | libc::POLLERR,
        libc::POLLOUT | libc::POLLWRNORM | libc::POLLERR,
        libc::POLLPRI,
    ];
    // SAFETY: the caller's promise: each is a set of at least `count` bits, or null.
    let bit = |set: *mut u64, n: usize| !set.is_null() && unsafe { *set.add(n / 64) } >> (n % 64) & 1 != 0;
    let mut watched = Vec::new();
    for n in 0..count {
        let asked = (0..3).filter(|i| bit(sets[*i], n)).fold(0, |events, i| events | ASKS[i]);
        if asked != 0 {
            let one = Watched::new(world, n as i32, asked);
            if one.ready() & libc::POLLNVAL != 0 {
                return Err(Errno::BAD);
            }
            watched.push((n, one));
        }
    }
    let list: Vec<Watched> = watched.iter().map(|(_, one)| one.clone()).collect();
    poll::wait(world, &list, timeout);
    let mut found = [[0u64; libc::FD_SETSIZE / 64]; 3];
    let mut ready = 0;
    for (n, one) in &watched {
        let bits = one.ready();
        for i in 0..3 {
            if bit(sets[i], *n) && bits & TAKES[i] != 0 {
                found[i][n / 64] |= 1 << (n % 64);
                ready += 1;
            }
        }
    }
    for (set, found) in sets.into_iter().zip(found) {
        if !set.is_null() {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), set, words) };
        }
    }
    Ok(ready)
}

// ---- timers -----------------------------------------------------------------------------------------------------------

fn new_timer(world: &World, clock: i32, flags: i32) -> Answer<i64> {
    let by_wall = match clock {
        libc::CLOCK_REALTIME => true,
        libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME => false,
        // Needs CAP_WAKE_ALARM.
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => return Err(Errno(libc::EPERM)),
        _ => return Err(Errno::INVALID),
    };
    if flags & !(libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) != 0 {
        return Err(Errno::INVALID);
    }
    add(world, Object::Timer(TimerFd::new(by_wall)), flags, libc::O_RDWR)
}

fn timer(own: &Description) -> Answer<&TimerFd> {
    match &own.object {
        Object::Timer(timer) => Ok(timer),
        _ => Err(Errno::INVALID),
    }
}

fn duration(time: timespec) -> Answer<Duration> {
    if time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) {
        return Err(Errno::INVALID);
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

fn timer_value((left, interval): (Duration, Duration)) -> libc::itimerspec {
    let time = |d: Duration| timespec { tv_sec: d.as_secs() as i64, tv_nsec: d.subsec_nanos() as i64 };
    libc::itimerspec { it_interval: time(interval), it_value: time(left) }
}

unsafe fn set_timer(
    world: &World,
    own: &Description,
    flags: i32,
    new: *const libc::itimerspec,
    old: *mut libc::itimerspec,
) -> Answer<i64> {
    const CANCEL_ON_SET: i32 = 2;
    if flags & !(libc::TFD_TIMER_ABSTIME | CANCEL_ON_SET) != 0 {
        return Err(Errno::INVALID);
    }
    // Of any other timer the kernel takes the flag and ignores it: timerfd_setup_cancel, fs/timerfd.c.
    let cancels = flags & (libc::TFD_TIMER_ABSTIME | CANCEL_ON_SET) == libc::TFD_TIMER_ABSTIME | CANCEL_ON_SET;
    if cancels && timer(own)?.is_by_wall() {
        escape(world, "timerfd_settime(TFD_TIMER_CANCEL_ON_SET)".into());
        return Err(Errno::INVALID);
    }
    // SAFETY: the caller's promise.
    let new = unsafe { new.as_ref() }.ok_or(Errno::FAULT)?;
    let (value, interval) = (duration(new.it_value)?, duration(new.it_interval)?);
    let before = timer(own)?.set(own, world, flags & libc::TFD_TIMER_ABSTIME != 0, value, interval);
    // SAFETY: as above.
    if let Some(old) = unsafe { old.as_mut() } {
        *old = timer_value(before);
    }
    Ok(0)
}

unsafe fn get_timer(own: &Description, out: *mut libc::itimerspec) -> Answer<i64> {
    // SAFETY: the caller's promise.
    let out = unsafe { out.as_mut() }.ok_or(Errno::FAULT)?;
    *out = timer_value(timer(own)?.get());
    Ok(0)
}

/// A switch point for a caller that only looks.
pub(super) fn glance() {
    threads::yield_now();
}
