//! libc's names for the calls on descriptors and sockets. Each is one system call, to the run or to the kernel.

use super::calls::{answer, answer_here};
use crate::interpose::{errno, world};
use crate::raw;
use libc::{c_void, epoll_event, fd_set, iovec, itimerspec, mmsghdr, msghdr, pollfd, sigset_t, sockaddr, socklen_t};
use libc::{timespec, timeval};

/// # Safety
/// As pselect(2). The system call takes the mask of signals and its size behind one pointer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pselect(
    count: i32,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> i32 {
    // The kernel may change it.
    // SAFETY: the caller's promise: a timespec, or null.
    let mut time = unsafe { timeout.as_ref() }.copied();
    let time = time.as_mut().map_or(std::ptr::null_mut(), |time| &raw mut *time);
    let mask = [mask as i64, 8];
    let args = [count as i64, read as i64, write as i64, except as i64, time as i64, mask.as_ptr() as i64];
    // SAFETY: the caller's promise, and locals.
    unsafe { call(libc::SYS_pselect6, args) as i32 }
}

/// The call, in libc's convention.
///
/// # Safety
/// The arguments are those of the system call of that number.
#[inline]
unsafe fn call(number: i64, args: [i64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let answered = world().and_then(|world| answer(world, number, args));
        errno(answered.unwrap_or_else(|| raw::call(number, args)))
    }
}

/// The same of what programs call again and again: the compiler leaves nothing of the table of calls but the one.
///
/// # Safety
/// As [`call`].
#[inline(always)]
unsafe fn call_often(number: i64, args: [i64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let answered = match world() {
            Some(world) => answer_here(world, number, args),
            None => None,
        };
        errno(answered.unwrap_or_else(|| raw::call(number, args)))
    }
}

/// Arguments of a system call, as many as are given.
#[inline(always)]
fn six<const N: usize>(given: [i64; N]) -> [i64; 6] {
    std::array::from_fn(|i| given.get(i).copied().unwrap_or(0))
}

macro_rules! calls {
    (
        often { $($often:ident($($x:ident: $y:ty),*) -> $z:ty = $n:ident($($g:expr),*);)* }
        $($name:ident($($arg:ident: $type:ty),*) -> $result:ty = $number:ident($($given:expr),*);)*
    ) => {
        $(
            /// # Safety
            /// As libc's function of that name.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $often($($x: $y),*) -> $z {
                // SAFETY: the caller's promise.
                unsafe { call_often(libc::$n, six([$($g as i64),*])) as $z }
            }
        )*
        $(
            /// # Safety
            /// As libc's function of that name.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> $result {
                // SAFETY: the caller's promise.
                unsafe { call(libc::$number, six([$($given as i64),*])) as $result }
            }
        )*

        /// A symbol in an object file of an archive is linked only if somebody names it: here all are named.
        pub(crate) static SYMBOLS: &[crate::interpose::Symbol] =
            &[$(crate::interpose::Symbol::new($often as *const ()),)*
              $(crate::interpose::Symbol::new($name as *const ()),)* crate::interpose::Symbol::new(pselect as *const ())];
    };
}

// Functions that are variadic in C are of fixed arity here: integer arguments stand in the same registers (System V ABI,
// AMD64, 3.5.7).
calls! {
    often {
        read(fd: i32, to: *mut c_void, len: usize) -> isize = SYS_read(fd, to, len);
        readv(fd: i32, parts: *const iovec, count: i32) -> isize = SYS_readv(fd, parts, count);
        sendto(fd: i32, from: *const c_void, len: usize, flags: i32, to: *const sockaddr, to_len: socklen_t) -> isize
            = SYS_sendto(fd, from, len, flags, to, to_len);
        send(fd: i32, from: *const c_void, len: usize, flags: i32) -> isize = SYS_sendto(fd, from, len, flags, 0, 0);
        recv(fd: i32, to: *mut c_void, len: usize, flags: i32) -> isize = SYS_recvfrom(fd, to, len, flags, 0, 0);
        recvfrom(fd: i32, to: *mut c_void, len: usize, flags: i32, peer: *mut sockaddr, peer_len: *mut socklen_t) -> isize
            = SYS_recvfrom(fd, to, len, flags, peer, peer_len);
    }
    __read_chk(fd: i32, to: *mut c_void, len: usize, _room: usize) -> isize = SYS_read(fd, to, len);
    pread(fd: i32, to: *mut c_void, len: usize, at: i64) -> isize = SYS_pread64(fd, to, len, at);
    pread64(fd: i32, to: *mut c_void, len: usize, at: i64) -> isize = SYS_pread64(fd, to, len, at);
    preadv(fd: i32, parts: *const iovec, count: i32, at: i64) -> isize = SYS_preadv(fd, parts, count, at, 0);
    preadv64(fd: i32, parts: *const iovec, count: i32, at: i64) -> isize = SYS_preadv(fd, parts, count, at, 0);
    preadv2(fd: i32, parts: *const iovec, count: i32, at: i64, flags: i32) -> isize
        = SYS_preadv2(fd, parts, count, at, 0, flags);
    pwrite(fd: i32, from: *const c_void, len: usize, at: i64) -> isize = SYS_pwrite64(fd, from, len, at);
    pwrite64(fd: i32, from: *const c_void, len: usize, at: i64) -> isize = SYS_pwrite64(fd, from, len, at);
    pwritev(fd: i32, parts: *const iovec, count: i32, at: i64) -> isize = SYS_pwritev(fd, parts, count, at, 0);
    pwritev64(fd: i32, parts: *const iovec, count: i32, at: i64) -> isize = SYS_pwritev(fd, parts, count, at, 0);
    pwritev2(fd: i32, parts: *const iovec, count: i32, at: i64, flags: i32) -> isize
        = SYS_pwritev2(fd, parts, count, at, 0, flags);
    close(fd: i32) -> i32 = SYS_close(fd);
    close_range(from: u32, to: u32, flags: i32) -> i32 = SYS_close_range(from, to, flags);
    dup(fd: i32) -> i32 = SYS_dup(fd);
    dup2(from: i32, to: i32) -> i32 = SYS_dup2(from, to);
    dup3(from: i32, to: i32, flags: i32) -> i32 = SYS_dup3(from, to, flags);
    fcntl(fd: i32, command: i32, argument: i64) -> i32 = SYS_fcntl(fd, command, argument);
    fcntl64(fd: i32, command: i32, argument: i64) -> i32 = SYS_fcntl(fd, command, argument);
    ioctl(fd: i32, request: u64, argument: *mut c_void) -> i32 = SYS_ioctl(fd, request, argument);

    splice(from: i32, from_at: *mut i64, to: i32, to_at: *mut i64, len: usize, flags: u32) -> isize
        = SYS_splice(from, from_at, to, to_at, len, flags);
    tee(from: i32, to: i32, len: usize, flags: u32) -> isize = SYS_tee(from, to, len, flags);
    vmsplice(fd: i32, parts: *const iovec, count: usize, flags: u32) -> isize
        = SYS_vmsplice(fd, parts, count, flags);
    pipe(out: *mut i32) -> i32 = SYS_pipe(out);
    pipe2(out: *mut i32, flags: i32) -> i32 = SYS_pipe2(out, flags);
    eventfd(count: u32, flags: i32) -> i32 = SYS_eventfd2(count, flags);
    timerfd_create(clock: i32, flags: i32) -> i32 = SYS_timerfd_create(clock, flags);
    timerfd_settime(fd: i32, flags: i32, new: *const itimerspec, old: *mut itimerspec) -> i32
        = SYS_timerfd_settime(fd, flags, new, old);
    timerfd_gettime(fd: i32, out: *mut itimerspec) -> i32 = SYS_timerfd_gettime(fd, out);
    epoll_create(size: i32) -> i32 = SYS_epoll_create(size);
    epoll_create1(flags: i32) -> i32 = SYS_epoll_create1(flags);
    epoll_ctl(fd: i32, operation: i32, target: i32, event: *mut epoll_event) -> i32
        = SYS_epoll_ctl(fd, operation, target, event);
    epoll_wait(fd: i32, out: *mut epoll_event, room: i32, timeout: i32) -> i32
        = SYS_epoll_wait(fd, out, room, timeout);
    epoll_pwait(fd: i32, out: *mut epoll_event, room: i32, timeout: i32, mask: *const sigset_t) -> i32
        = SYS_epoll_pwait(fd, out, room, timeout, mask, 8);
    epoll_pwait2(fd: i32, out: *mut epoll_event, room: i32, timeout: *const timespec, mask: *const sigset_t) -> i32
        = SYS_epoll_pwait2(fd, out, room, timeout, mask, 8);
    poll(list: *mut pollfd, count: u64, timeout: i32) -> i32 = SYS_poll(list, count, timeout);
    __poll_chk(list: *mut pollfd, count: u64, timeout: i32, _room: usize) -> i32 = SYS_poll(list, count, timeout);
    ppoll(list: *mut pollfd, count: u64, timeout: *const timespec, mask: *const sigset_t) -> i32
        = SYS_ppoll(list, count, timeout, mask, 8);
    select(count: i32, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> i32
        = SYS_select(count, read, write, except, timeout);

    socket(family: i32, kind: i32, protocol: i32) -> i32 = SYS_socket(family, kind, protocol);
    socketpair(family: i32, kind: i32, protocol: i32, pair: *mut i32) -> i32
        = SYS_socketpair(family, kind, protocol, pair);
    bind(fd: i32, to: *const sockaddr, len: socklen_t) -> i32 = SYS_bind(fd, to, len);
    listen(fd: i32, backlog: i32) -> i32 = SYS_listen(fd, backlog);
    accept(fd: i32, peer: *mut sockaddr, len: *mut socklen_t) -> i32 = SYS_accept(fd, peer, len);
    accept4(fd: i32, peer: *mut sockaddr, len: *mut socklen_t, flags: i32) -> i32
        = SYS_accept4(fd, peer, len, flags);
    connect(fd: i32, to: *const sockaddr, len: socklen_t) -> i32 = SYS_connect(fd, to, len);
    shutdown(fd: i32, how: i32) -> i32 = SYS_shutdown(fd, how);
    sendmsg(fd: i32, message: *const msghdr, flags: i32) -> isize = SYS_sendmsg(fd, message, flags);
    sendmmsg(fd: i32, list: *mut mmsghdr, count: u32, flags: i32) -> i32 = SYS_sendmmsg(fd, list, count, flags);
    __recv_chk(fd: i32, to: *mut c_void, len: usize, _room: usize, flags: i32) -> isize
        = SYS_recvfrom(fd, to, len, flags, 0, 0);
    recvmsg(fd: i32, message: *mut msghdr, flags: i32) -> isize = SYS_recvmsg(fd, message, flags);
    recvmmsg(fd: i32, list: *mut mmsghdr, count: u32, flags: i32, timeout: *mut timespec) -> i32
        = SYS_recvmmsg(fd, list, count, flags, timeout);
    getsockopt(fd: i32, level: i32, name: i32, value: *mut c_void, len: *mut socklen_t) -> i32
        = SYS_getsockopt(fd, level, name, value, len);
    setsockopt(fd: i32, level: i32, name: i32, value: *const c_void, len: socklen_t) -> i32
        = SYS_setsockopt(fd, level, name, value, len);
    getsockname(fd: i32, out: *mut sockaddr, len: *mut socklen_t) -> i32 = SYS_getsockname(fd, out, len);
    getpeername(fd: i32, out: *mut sockaddr, len: *mut socklen_t) -> i32 = SYS_getpeername(fd, out, len);
}
