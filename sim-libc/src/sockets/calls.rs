//! System calls on sockets, in the kernel's convention.

use super::address::{self, Bytes};
use super::options::Control;
use super::pipe::PipeEnd;
use super::{Besides, Socket};
use crate::descriptors::calls::{Parts, add, of, on, ours, parts};
use crate::descriptors::{Answer, Description, Descriptors, Errno, Object};
use libc::{iovec, mmsghdr, msghdr, timespec};
use sim_core::World;
use std::rc::Rc;
use std::time::Duration;

/// The bits of a socket's kind that are no flags.
const KIND: i32 = 0xf;
const FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
/// The greatest option that a program may give.
const MOST_OPTION: u32 = 4096;

/// What the run answers; `None` if the call is the kernel's.
///
/// # Safety
/// The arguments are those of the system call of that number.
#[inline(always)]
pub(crate) unsafe fn answer(world: &'static World, number: i64, args: [i64; 6]) -> Option<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller's promise; the casts follow the calls' signatures.
    unsafe {
        Some(match number {
            libc::SYS_socket => of(new(world, a as i32, b as i32, c as i32)),
            libc::SYS_socketpair => of(pair(world, a as i32, b as i32, c as i32, d as *mut i32)),
            libc::SYS_pipe | libc::SYS_pipe2 => {
                let flags = if number == libc::SYS_pipe2 { b as i32 } else { 0 };
                of(pipe(world, a as *mut i32, flags))
            }
            libc::SYS_bind => on(ours(world, number, args)?, |own| {
                let socket = socket(own)?;
                socket.bind(own, world, address::read(b as *const u8, c as u32)?).map(|()| 0)
            }),
            libc::SYS_listen => {
                on(ours(world, number, args)?, |own| socket(own)?.listen(own, world, b as i32).map(|()| 0))
            }
            libc::SYS_accept | libc::SYS_accept4 => on(ours(world, number, args)?, |own| {
                let flags = if number == libc::SYS_accept4 { d as i32 } else { 0 };
                accept(world, own, b as *mut u8, c as *mut u32, flags)
            }),
            libc::SYS_connect => on(ours(world, number, args)?, |own| {
                let socket = socket(own)?;
                socket.connect(own, world, address::read(b as *const u8, c as u32)?).map(|()| 0)
            }),
            libc::SYS_shutdown => {
                on(ours(world, number, args)?, |own| socket(own)?.shut_down(own, b as i32).map(|()| 0))
            }
            libc::SYS_sendto => on(ours(world, number, args)?, |own| {
                let socket = socket(own)?;
                let to = if e == 0 { None } else { Some(address::read(e as *const u8, f as u32)?) };
                let mut part = one(b, c)?;
                socket.send(own, world, part.as_slices(), d as i32, to)
            }),
            libc::SYS_recvfrom => on(ours(world, number, args)?, |own| {
                let socket = socket(own)?;
                let mut part = one(b, c)?;
                let mut besides = Besides::default();
                let len = socket.receive(own, world, part.as_slices_mut(), d as i32, &mut besides)?;
                if e != 0 {
                    Bytes::of_sender(besides.from.as_ref()).write(e as *mut u8, f as *mut u32)?;
                }
                Ok(len)
            }),
            libc::SYS_sendmsg => {
                on(ours(world, number, args)?, |own| send_message(world, own, b as *const msghdr, c as i32))
            }
            libc::SYS_recvmsg => {
                on(ours(world, number, args)?, |own| receive_message(world, own, b as *mut msghdr, c as i32))
            }
            libc::SYS_sendmmsg => on(ours(world, number, args)?, |own| {
                let mut sent = 0;
                for i in 0..(c as u32).min(1024) as usize {
                    let Some(message) = (b as *mut mmsghdr).add(i).as_mut() else { return Err(Errno::FAULT) };
                    match send_message(world, own, &message.msg_hdr, d as i32) {
                        Ok(len) => message.msg_len = len as u32,
                        Err(errno) if sent == 0 => return Err(errno),
                        Err(_) => break,
                    }
                    sent += 1;
                }
                Ok(sent)
            }),
            libc::SYS_recvmmsg => on(ours(world, number, args)?, |own| {
                let timeout = (e as *const timespec).as_ref();
                receive_messages(world, own, b as *mut mmsghdr, c as u32, d as i32, timeout)
            }),
            libc::SYS_setsockopt => on(ours(world, number, args)?, |own| {
                let socket = socket(own)?;
                if e as i32 >= 0 && d == 0 && e != 0 {
                    return Err(Errno::FAULT);
                }
                let len = u32::try_from(e as i32).map_err(|_| Errno::INVALID)?.min(MOST_OPTION);
                let value = if len == 0 { &[] } else { std::slice::from_raw_parts(d as *const u8, len as usize) };
                socket.set_option(b as i32, c as i32, value).map(|()| 0)
            }),
            libc::SYS_getsockopt => on(ours(world, number, args)?, |own| {
                let socket = socket(own)?;
                let Some(len) = (e as *mut u32).as_mut() else { return Err(Errno::FAULT) };
                if (*len as i32) < 0 {
                    return Err(Errno::INVALID);
                }
                let mut value = socket.option(b as i32, c as i32)?;
                // Linux, do_ip_getsockopt(): a place that is too small for a number gets one byte.
                if b as i32 == libc::IPPROTO_IP && (1..4).contains(len) && value[1..].iter().all(|byte| *byte == 0) {
                    value.truncate(1);
                }
                let kept = value.len().min(*len as usize);
                if kept > 0 && d == 0 {
                    return Err(Errno::FAULT);
                }
                std::ptr::copy_nonoverlapping(value.as_ptr(), d as *mut u8, kept);
                *len = kept as u32;
                Ok(0)
            }),
            libc::SYS_getsockname => on(ours(world, number, args)?, |own| {
                let name = socket(own)?.name()?;
                needed(b, c)?;
                name.write(b as *mut u8, c as *mut u32).map(|()| 0)
            }),
            libc::SYS_getpeername => on(ours(world, number, args)?, |own| {
                let peer = socket(own)?.peer()?;
                needed(b, c)?;
                peer.write(b as *mut u8, c as *mut u32).map(|()| 0)
            }),
            _ => return None,
        })
    }
}

fn needed(at: i64, len: i64) -> Answer<()> {
    if at == 0 || len == 0 { Err(Errno::FAULT) } else { Ok(()) }
}

fn socket(own: &Description) -> Answer<&Socket> {
    match &own.object {
        Object::Socket(socket) => Ok(socket),
        _ => Err(Errno(libc::ENOTSOCK)),
    }
}

fn new(world: &World, family: i32, kind: i32, protocol: i32) -> Answer<i64> {
    if kind & !(KIND | FLAGS) != 0 {
        return Err(Errno::INVALID);
    }
    let made = Socket::new(world, family, kind & KIND, protocol)?;
    add(world, Object::Socket(made), kind & FLAGS, libc::O_RDWR)
}

unsafe fn pair(world: &World, family: i32, kind: i32, protocol: i32, out: *mut i32) -> Answer<i64> {
    if kind & !(KIND | FLAGS) != 0 {
        return Err(Errno::INVALID);
    }
    let made = Socket::pair(world, family, kind & KIND, protocol)?.map(Object::Socket);
    // SAFETY: the caller's promise.
    unsafe { put_two(world, made, kind & FLAGS, [libc::O_RDWR; 2], out) }
}

unsafe fn pipe(world: &World, out: *mut i32, flags: i32) -> Answer<i64> {
    // O_DIRECT: a pipe of packets, which nobody asks for.
    if flags & !(libc::O_CLOEXEC | libc::O_NONBLOCK) != 0 {
        return Err(Errno::INVALID);
    }
    let made = PipeEnd::pair(world)?.map(Object::Pipe);
    // SAFETY: the caller's promise.
    unsafe { put_two(world, made, flags, [libc::O_RDONLY, libc::O_WRONLY], out) }
}

/// Two new numbers, or none.
unsafe fn put_two(world: &World, [a, b]: [Object; 2], flags: i32, access: [i32; 2], out: *mut i32) -> Answer<i64> {
    if out.is_null() {
        return Err(Errno::FAULT);
    }
    let first = add(world, a, flags, access[0])?;
    let second = match add(world, b, flags, access[1]) {
        Ok(second) => second,
        Err(errno) => {
            Descriptors::of(world).close(world, first as i32)?;
            return Err(errno);
        }
    };
    // SAFETY: the caller's promise: room for two numbers.
    unsafe {
        out.write_unaligned(first as i32);
        out.add(1).write_unaligned(second as i32);
    }
    Ok(0)
}

unsafe fn accept(world: &'static World, own: &Rc<Description>, at: *mut u8, len: *mut u32, flags: i32) -> Answer<i64> {
    if flags & !FLAGS != 0 {
        return Err(Errno::INVALID);
    }
    let (accepted, peer) = socket(own)?.accept(own, world)?;
    let number = add(world, Object::Socket(accepted), flags, libc::O_RDWR)?;
    // SAFETY: the caller's promise.
    unsafe { peer.write(at, len)? };
    Ok(number)
}

/// One buffer of a send or a receive.
fn one(at: i64, len: i64) -> Answer<Parts> {
    if at == 0 && len != 0 {
        return Err(Errno::FAULT);
    }
    Ok(Parts::One(iovec { iov_base: at as *mut _, iov_len: (len as usize).min(0x7fff_f000) }))
}

/// What stands in a message beside its bytes. Descriptors cannot be sent along: a program that does so must not go on
/// as if they had arrived.
unsafe fn heed_control(world: &World, message: &msghdr) {
    // SAFETY: the caller's promise: a message whose control part is valid.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                crate::interpose::escape(world, "sendmsg(SCM_RIGHTS)".into());
            }
            header = libc::CMSG_NXTHDR(message, control);
        }
    }
}

unsafe fn send_message(
    world: &'static World,
    own: &Rc<Description>,
    message: *const msghdr,
    flags: i32,
) -> Answer<usize> {
    let socket = socket(own)?;
    // SAFETY: the caller's promise: a message whose parts are valid.
    unsafe {
        let message = message.as_ref().ok_or(Errno::FAULT)?;
        if message.msg_iovlen > 1024 {
            return Err(Errno(libc::EMSGSIZE));
        }
        let to = match message.msg_name.is_null() || message.msg_namelen == 0 {
            true => None,
            false => Some(address::read(message.msg_name.cast(), message.msg_namelen)?),
        };
        if !message.msg_control.is_null() && message.msg_controllen > 0 {
            heed_control(world, message);
        }
        let mut list = parts(message.msg_iov as i64, message.msg_iovlen as i64)?;
        socket.send(own, world, list.as_slices(), flags, to)
    }
}

/// Puts control messages behind each other, each begun at a multiple of eight bytes, and says so if one has no room: put_cmsg,
/// net/core/scm.c.
///
/// # Safety
/// The message's control part is valid for as many bytes as it says, or null.
unsafe fn put_control(message: &mut msghdr, list: &[Control]) {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    let room = if message.msg_control.is_null() { 0 } else { message.msg_controllen };
    let mut used = 0;
    for control in list {
        let len = HEAD + control.value.len();
        if used + len > room {
            message.msg_flags |= libc::MSG_CTRUNC;
            break;
        }
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([control.level, control.name].iter().flat_map(|n| n.to_ne_bytes()));
        bytes.extend(&control.value);
        // SAFETY: the caller's promise; there is room, as was just checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), message.msg_control.cast::<u8>().add(used), len) };
        used = (used + len.next_multiple_of(8)).min(room);
    }
    message.msg_controllen = used;
}

unsafe fn receive_message(
    world: &'static World,
    own: &Rc<Description>,
    message: *mut msghdr,
    flags: i32,
) -> Answer<usize> {
    let socket = socket(own)?;
    // SAFETY: the caller's promise: a message whose parts are valid.
    unsafe {
        let message = message.as_mut().ok_or(Errno::FAULT)?;
        if message.msg_iovlen > 1024 {
            return Err(Errno(libc::EMSGSIZE));
        }
        let mut list = parts(message.msg_iov as i64, message.msg_iovlen as i64)?;
        let mut besides = Besides::default();
        let len = socket.receive(own, world, list.as_slices_mut(), flags, &mut besides)?;
        let Besides { cut, from, control } = besides;
        message.msg_flags = if cut { libc::MSG_TRUNC } else { 0 };
        put_control(message, &control);
        match (from, message.msg_name.is_null()) {
            (Some(from), false) => {
                Bytes::of_sender(Some(&from)).write(message.msg_name.cast(), &mut message.msg_namelen)?
            }
            _ => message.msg_namelen = 0,
        }
        Ok(len)
    }
}

unsafe fn receive_messages(
    world: &'static World,
    own: &Rc<Description>,
    list: *mut mmsghdr,
    count: u32,
    flags: i32,
    timeout: Option<&timespec>,
) -> Answer<usize> {
    let patience = timeout.map(|t| Duration::new(t.tv_sec.max(0) as u64, (t.tv_nsec as u32).min(999_999_999)));
    let until = patience.map(|patience| world.now() + patience);
    let mut got = 0;
    let for_one = flags & libc::MSG_WAITFORONE != 0;
    let mut flags = flags & !libc::MSG_WAITFORONE;
    // As Linux does, the timeout is looked at after each datagram only (man 2 recvmmsg, BUGS).
    for i in 0..count.min(1024) as usize {
        // SAFETY: the caller's promise: `count` messages.
        let Some(message) = (unsafe { list.add(i).as_mut() }) else { return Err(Errno::FAULT) };
        // SAFETY: as above.
        match unsafe { receive_message(world, own, &mut message.msg_hdr, flags) } {
            Ok(len) => message.msg_len = len as u32,
            Err(errno) if got == 0 => return Err(errno),
            Err(_) => break,
        }
        got += 1;
        if for_one {
            flags |= libc::MSG_DONTWAIT;
        }
        if until.is_some_and(|until| world.now() >= until) {
            break;
        }
    }
    Ok(got)
}
