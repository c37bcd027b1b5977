//! Random sequences of calls, once in a World and once on the kernel's own loopback: same results, same errors.
//!
//! Everything is non-blocking and on one thread. Ports and names are compared by the order in which they appear. Left out,
//! because the two may rightly differ, are
//! - *how much a TCP socket holds*: the kernel's buffers grow as it sees fit (`tcp_rmem`, man 7 tcp): few bytes are sent;
//! - *when loopback delivers*: the kernel may put it off (`net_rx_action()` leaves the rest to `ksoftirqd`), so a sequence that
//!   differs is tried again with pauses, twice; in the World, where the loopback has no latency, what is due happens after
//!   each call;
//! - *the order of events of one wait* when one call caused several (`ep_send_events()` goes by the ready list);
//! - *edges of room*: the kernel tells one for each buffer that it gives back (`sock_wfree()`), also in calls that fail; one
//!   too many or too few where there was room all the time changes nothing for a program;
//! - *ports of another protocol*: TCP and UDP number theirs apart, at random there and in order here, so that here the same
//!   number often is both; a port where nobody is stands for one of the other protocol;
//! - *a stream that connects to itself*: simultaneous open (RFC 9293, section 3.5), which sim-net does not model;
//! - *connecting what was shut down before*: `inet_shutdown()` fails and sets `sk_shutdown` all the same, which lasts through
//!   the connection; here it lasts until then;
//! - *binding a socket whose connection failed or ended*: `inet_bind()` asks for the state and the port alone, so it can be
//!   bound while it still is what it was to `connect` and `getsockopt`; here it cannot.
//!
//! `SIM_SEQUENCES=100000 cargo test -p sim-libc --test differential` is the long run.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use sim_core::{Choices, Settings, Spawn, World};
use sim_libc::interpose;
use sim_net::{Config, Net};
use std::fmt::Write as _;
use std::io;
use std::mem::{size_of, zeroed};

/// How many calls a sequence has.
const CALLS: usize = 50;
const SLOTS: usize = 12;

/// SplitMix64: numbers that depend on the seed alone.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What a slot holds, as far as the generator knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Socket(i32, i32),
    Pipe,
    EventFd,
    Epoll,
}

struct Sequence<F> {
    numbers: Numbers,
    /// Numbers, and which description they lead to.
    slots: Vec<(i32, Kind)>,
    descriptions: Vec<usize>,
    made: usize,
    /// Ports in the order in which they were seen.
    ports: Vec<(bool, u16)>,
    /// Begins the abstract names of this sequence.
    prefix: String,
    log: Vec<String>,
    /// Shut down before they were connected, which lasts, but not here.
    was_shut: Vec<usize>,
    /// Tried to connect.
    has_tried: Vec<usize>,
    settle: F,
}

fn answer(result: i64) -> String {
    match result {
        -1 => {
            let error = io::Error::last_os_error();
            let number = error.raw_os_error().unwrap_or(0);
            format!("-{} ({})", number, error.to_string().split(" (os").next().unwrap_or(""))
        }
        result => result.to_string(),
    }
}

/// Bytes that tell where they came from.
fn payload(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + salt) as u8).collect()
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(7u32, |sum, b| sum.wrapping_mul(31).wrapping_add(*b as u32))
}

struct Addr {
    bytes: [u8; 128],
    len: u32,
}

impl Addr {
    fn new() -> Addr {
        Addr { bytes: [0; 128], len: 128 }
    }

    fn ip(family: i32, any: bool, port: u16) -> Addr {
        let mut addr = Addr::new();
        addr.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        addr.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        if family == libc::AF_INET {
            addr.bytes[4..8].copy_from_slice(&if any { [0; 4] } else { [127, 0, 0, 1] });
            addr.len = 16;
        } else {
            addr.bytes[23] = !any as u8;
            addr.len = 28;
        }
        addr
    }

    fn name(name: &str) -> Addr {
        let mut addr = Addr::new();
        addr.bytes[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        addr.bytes[3..3 + name.len()].copy_from_slice(name.as_bytes());
        addr.len = 3 + name.len() as u32;
        addr
    }

    fn family(&self) -> i32 {
        i32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]))
    }

    fn at(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }
}

impl<F: Fn()> Sequence<F> {
    fn new(seed: u64, settle: F) -> Self {
        let prefix = format!("sim-{}-{seed}-", std::process::id());
        Sequence {
            numbers: Numbers(seed),
            slots: Vec::new(),
            descriptions: Vec::new(),
            made: 0,
            ports: Vec::new(),
            prefix,
            log: Vec::new(),
            was_shut: Vec::new(),
            has_tried: Vec::new(),
            settle,
        }
    }

    fn show(&mut self, addr: &Addr, slot: usize) -> String {
        match addr.family() {
            _ if addr.len == 0 => "nothing".into(),
            libc::AF_UNIX => {
                let name = &addr.bytes[2..(addr.len as usize).max(2)];
                match std::str::from_utf8(name.get(1..).unwrap_or(&[])).ok().and_then(|n| n.strip_prefix(&self.prefix))
                {
                    Some(name) => format!("unix {name}"),
                    None if name.is_empty() => "unix".into(),
                    None => format!("unix of {} bytes", name.len()),
                }
            }
            family => {
                let port = u16::from_be_bytes([addr.bytes[2], addr.bytes[3]]);
                let udp = matches!(self.slots.get(slot), Some((_, Kind::Socket(_, libc::SOCK_DGRAM))));
                let place = match self.ports.iter().position(|p| *p == (udp, port)) {
                    _ if port == 0 => "none".to_owned(),
                    Some(place) => place.to_string(),
                    None => {
                        self.ports.push((udp, port));
                        (self.ports.len() - 1).to_string()
                    }
                };
                let host = &addr.bytes[4..if family == libc::AF_INET { 8 } else { 24 }];
                format!("family {family} host {host:?} port {place} len {}", addr.len)
            }
        }
    }

    fn fd(&self, slot: usize) -> i32 {
        self.slots.get(slot).map_or(-1, |s| s.0)
    }

    /// A slot: mostly one of those that fit.
    fn pick(&mut self, fits: impl Fn(Kind) -> bool) -> usize {
        let fitting: Vec<usize> = (0..self.slots.len()).filter(|i| fits(self.slots[*i].1)).collect();
        match self.numbers.below(25) {
            0 => self.numbers.below(SLOTS),
            _ if fitting.is_empty() => self.numbers.below(SLOTS),
            _ => self.numbers.one_of(&fitting),
        }
    }

    /// Where `to` is, as seen by `slot`. A port where nobody is stands for that of another protocol, for a stream's own (to
    /// connect to itself is simultaneous open, which is not modelled), and for a datagram socket of IPv6 for what has IPv4
    /// (its own address goes to and fro between the two).
    fn destination(&mut self, slot: usize, to: usize) -> Addr {
        let (own, mut addr) = (self.address_of(slot), self.address_of(to));
        let kind = |s: usize| self.slots.get(s).map(|s| s.1);
        let (mine, theirs) = (kind(slot), kind(to));
        let Some(Kind::Socket(family, kind)) = mine else { return addr };
        let (of, other) = match theirs {
            Some(Kind::Socket(of, other)) => (of, other),
            _ => (addr.family(), kind),
        };
        if family == libc::AF_UNIX || of == libc::AF_UNIX {
            return addr;
        }
        let itself = kind == libc::SOCK_STREAM && own.bytes[2..4] == addr.bytes[2..4];
        if kind != other || itself {
            addr = Addr::ip(addr.family(), false, 1);
        }
        if kind == libc::SOCK_DGRAM && family == libc::AF_INET6 && family != of {
            addr = Addr::ip(family, false, 1);
        }
        addr
    }

    fn was_shut(&self, slot: usize) -> bool {
        self.descriptions.get(slot).is_some_and(|d| self.was_shut.contains(d))
    }

    fn any(&mut self) -> usize {
        self.pick(|_| true)
    }

    fn socket(&mut self) -> usize {
        self.pick(|k| matches!(k, Kind::Socket(..)))
    }

    fn keep(&mut self, fd: i32, kind: Kind) {
        if fd >= 0 {
            self.slots.push((fd, kind));
            self.descriptions.push(self.made);
            self.made += 1;
        }
    }

    /// The name of what a slot is bound to, as its own system says it.
    fn address_of(&mut self, slot: usize) -> Addr {
        let mut addr = Addr::new();
        // SAFETY: an address of 128 bytes.
        let result = unsafe { libc::getsockname(self.fd(slot), addr.bytes.as_mut_ptr().cast(), &mut addr.len) };
        // Port 0 is a destination that only the kernel understands.
        let inet = [libc::AF_INET, libc::AF_INET6].contains(&addr.family());
        if result < 0 || (inet && addr.bytes[2..4] == [0, 0]) {
            addr = Addr::ip(if result < 0 { libc::AF_INET } else { addr.family() }, false, 1);
        }
        if addr.family() == libc::AF_INET && addr.bytes[4] == 0 {
            addr.bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
        }
        addr
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }

    fn run(mut self) -> Vec<String> {
        self.connect_two(libc::SOCK_STREAM);
        self.connect_two(libc::SOCK_DGRAM);
        self.pair();
        // SAFETY: a number.
        let epoll = unsafe { libc::epoll_create1(0) };
        self.keep(epoll, Kind::Epoll);
        for _ in 0..CALLS {
            self.call();
            (self.settle)();
        }
        let open: Vec<i32> = self.slots.drain(..).map(|s| s.0).collect();
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        for fd in open {
            // SAFETY: a number, and a value of its length. By an RST no port is left in TIME_WAIT for the next sequences.
            unsafe {
                let len = size_of::<libc::linger>() as u32;
                libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const at_once).cast(), len);
                libc::close(fd);
            }
        }
        (self.settle)();
        self.log
    }

    /// Two sockets of IP that are connected with each other.
    fn connect_two(&mut self, kind: i32) {
        let family = self.numbers.one_of(&[libc::AF_INET, libc::AF_INET, libc::AF_INET6]);
        let flags = libc::SOCK_NONBLOCK;
        // SAFETY: numbers, and addresses of their lengths.
        unsafe {
            let (a, b) = (libc::socket(family, kind | flags, 0), libc::socket(family, kind | flags, 0));
            let anywhere = Addr::ip(family, false, 0);
            libc::bind(a, anywhere.at(), anywhere.len);
            libc::listen(a, 8);
            self.keep(a, Kind::Socket(family, kind));
            self.keep(b, Kind::Socket(family, kind));
            let slot = self.slots.len() - 2;
            let to = self.address_of(slot);
            libc::connect(b, to.at(), to.len);
            (self.settle)();
            let other = if kind == libc::SOCK_STREAM {
                let accepted = libc::accept4(a, std::ptr::null_mut(), std::ptr::null_mut(), flags);
                self.has_tried.push(self.made);
                self.keep(accepted, Kind::Socket(family, kind));
                accepted
            } else {
                let back = self.address_of(slot + 1);
                libc::connect(a, back.at(), back.len)
            };
            self.has_tried.extend([self.descriptions[slot], self.descriptions[slot + 1]]);
            self.note(format!(
                "two connected, family {family}: {}",
                if other < 0 { answer(-1) } else { "done".into() }
            ));
        }
    }

    fn call(&mut self) {
        let room = self.slots.len() < SLOTS;
        // SAFETY: every buffer and address is a local of the size that is said.
        unsafe {
            match self.numbers.below(34) {
                0..=3 if room => self.make(),
                4 | 5 if room => self.pair(),
                6 | 7 => self.bind(),
                8 => {
                    let (slot, backlog) = (self.socket(), self.numbers.below(3) as i32);
                    let result = libc::listen(self.fd(slot), backlog);
                    self.note(format!("listen {slot} {backlog} = {}", answer(result as i64)));
                }
                9..=11 => {
                    let (slot, to) = (self.socket(), self.socket());
                    let addr = self.destination(slot, to);
                    if self.was_shut(slot) {
                        return;
                    }
                    self.has_tried.extend(self.descriptions.get(slot).copied());
                    let result = libc::connect(self.fd(slot), addr.at(), addr.len);
                    self.note(format!("connect {slot} to {to} = {}", answer(result as i64)));
                }
                12 if room => {
                    let slot = self.socket();
                    let mut peer = Addr::new();
                    let flags = libc::SOCK_NONBLOCK;
                    let fd = libc::accept4(self.fd(slot), peer.bytes.as_mut_ptr().cast(), &mut peer.len, flags);
                    let shown = if fd >= 0 { self.show(&peer, slot) } else { answer(-1) };
                    if let (true, Some((_, kind))) = (fd >= 0, self.slots.get(slot).copied()) {
                        self.has_tried.push(self.made);
                        self.keep(fd, kind);
                    }
                    self.note(format!("accept {slot} = {shown}"));
                }
                13..=16 => self.send(),
                17..=21 => self.receive(),
                22 => {
                    let (slot, how) = (self.socket(), self.numbers.below(4) as i32);
                    let result = libc::shutdown(self.fd(slot), how);
                    if let (-1, Some(description)) = (result, self.descriptions.get(slot)) {
                        self.was_shut.push(*description);
                    }
                    self.note(format!("shutdown {slot} {how} = {}", answer(result as i64)));
                }
                23 if self.slots.len() > 2 => {
                    let slot = self.numbers.below(self.slots.len());
                    let (fd, _) = self.slots.remove(slot);
                    self.descriptions.remove(slot);
                    self.note(format!("close {slot} = {}", answer(libc::close(fd) as i64)));
                }
                24 => {
                    let slot = self.any();
                    let mut addr = Addr::new();
                    let peer = self.numbers.below(2) == 1;
                    let call = if peer { libc::getpeername } else { libc::getsockname };
                    let result = call(self.fd(slot), addr.bytes.as_mut_ptr().cast(), &mut addr.len);
                    let shown = if result == 0 { self.show(&addr, slot) } else { answer(-1) };
                    self.note(format!("name {slot} peer {peer} = {shown}"));
                }
                25 => self.option(),
                26..=28 => self.poll(),
                29 => {
                    let slot = self.any();
                    let mut n = -7;
                    let result = libc::ioctl(self.fd(slot), libc::FIONREAD, &mut n);
                    self.note(format!("FIONREAD {slot} = {} {n}", answer(result as i64)));
                }
                30 | 31 => self.watch(),
                32 | 33 => self.events(),
                _ if room => {
                    let slot = self.any();
                    let fd = libc::fcntl(self.fd(slot), libc::F_DUPFD_CLOEXEC, 3);
                    let made = if fd < 0 { answer(-1) } else { "made".into() };
                    if let (true, Some((_, kind))) = (fd >= 0, self.slots.get(slot).copied()) {
                        self.slots.push((fd, kind));
                        self.descriptions.push(self.descriptions[slot]);
                    }
                    self.note(format!("dup {slot} = {made}"));
                }
                _ => {
                    let slot = self.any();
                    let flags = libc::fcntl(self.fd(slot), libc::F_GETFL);
                    self.note(format!("flags {slot} = {}", answer(flags as i64 & !(libc::O_LARGEFILE as i64))));
                }
            }
        }
    }

    fn make(&mut self) {
        if self.slots.len() >= SLOTS {
            return;
        }
        let (inet, unix) = (libc::AF_INET, libc::AF_UNIX);
        let kinds = [
            (inet, libc::SOCK_STREAM),
            (inet, libc::SOCK_STREAM),
            (inet, libc::SOCK_DGRAM),
            (libc::AF_INET6, libc::SOCK_STREAM),
            (libc::AF_INET6, libc::SOCK_DGRAM),
            (unix, libc::SOCK_STREAM),
            (unix, libc::SOCK_DGRAM),
            (unix, libc::SOCK_SEQPACKET),
        ];
        // SAFETY: numbers.
        unsafe {
            let (what, fd, kind) = match self.numbers.below(8) {
                0 => ("eventfd", libc::eventfd(self.numbers.below(3) as u32, libc::EFD_NONBLOCK), Kind::EventFd),
                1 | 2 => ("epoll", libc::epoll_create1(0), Kind::Epoll),
                _ => {
                    let (family, kind) = self.numbers.one_of(&kinds);
                    let protocol = if self.numbers.below(10) == 0 { self.numbers.below(20) as i32 } else { 0 };
                    let fd = libc::socket(family, kind | libc::SOCK_NONBLOCK, protocol);
                    self.note(format!("{family} {kind} {protocol}"));
                    ("socket", fd, Kind::Socket(family, kind))
                }
            };
            let made = if fd < 0 { answer(-1) } else { "made".into() };
            self.keep(fd, kind);
            let slot = self.slots.len();
            self.note(format!("{what} {made}, {slot} now"));
        }
    }

    fn pair(&mut self) {
        let mut two = [-1; 2];
        // SAFETY: room for two numbers.
        unsafe {
            if self.numbers.below(3) == 0 {
                let result = libc::pipe2(two.as_mut_ptr(), libc::O_NONBLOCK);
                two.iter().for_each(|fd| self.keep(*fd, Kind::Pipe));
                return self.note(format!("pipe = {}", answer(result as i64)));
            }
            let kind = self.numbers.one_of(&[libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET]);
            let result = libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK, 0, two.as_mut_ptr());
            two.iter().for_each(|fd| self.keep(*fd, Kind::Socket(libc::AF_UNIX, kind)));
            self.note(format!("socketpair {kind} = {}", answer(result as i64)));
        }
    }

    fn bind(&mut self) {
        let slot = self.socket();
        // Linux, inet_bind(): a connection that is over may be bound again, whatever is left of it.
        if self.descriptions.get(slot).is_some_and(|d| self.has_tried.contains(d)) {
            return;
        }
        let family = match self.slots.get(slot) {
            Some((_, Kind::Socket(family, _))) => *family,
            _ => libc::AF_INET,
        };
        let (what, addr) = match self.numbers.below(4) {
            0 => {
                let other = self.socket();
                let kind = |s: usize| match self.slots.get(s) {
                    Some((_, Kind::Socket(_, kind))) => Some(*kind),
                    _ => None,
                };
                // Ports of two protocols have nothing to do with each other.
                let another = kind(slot) != kind(other);
                let mut addr = self.address_of(other);
                if addr.family() != libc::AF_UNIX && (another || addr.bytes[2..4] == [0, 1]) {
                    addr = Addr::ip(addr.family(), false, 0);
                }
                (format!("where {other} is"), addr)
            }
            _ if family == libc::AF_UNIX => {
                let name = format!("{}{}", self.prefix, self.numbers.below(4));
                ("a name".to_owned(), Addr::name(&name))
            }
            1 => ("anywhere".to_owned(), Addr::ip(family, true, 0)),
            _ => ("loopback".to_owned(), Addr::ip(family, false, 0)),
        };
        // SAFETY: an address of its length.
        let result = unsafe { libc::bind(self.fd(slot), addr.at(), addr.len) };
        self.note(format!("bind {slot} {what} = {}", answer(result as i64)));
    }

    fn send(&mut self) {
        let slot = self.any();
        let stream = matches!(self.slots.get(slot), Some((_, Kind::Socket(libc::AF_INET | libc::AF_INET6, _))));
        let lens: &[usize] = if stream { &[0, 1, 8, 100, 1000] } else { &[0, 1, 8, 100, 5000, 4096, 70_000] };
        let (len, salt) = (self.numbers.one_of(lens), self.log.len());
        let bytes = payload(len, salt);
        let fd = self.fd(slot);
        // SAFETY: buffers and addresses of their lengths.
        unsafe {
            let (what, result) = match self.numbers.below(4) {
                0 => ("write".into(), libc::write(fd, bytes.as_ptr().cast(), len)),
                1 => {
                    let (a, b) = bytes.split_at(len / 3);
                    let part = |p: &[u8]| libc::iovec { iov_base: p.as_ptr() as *mut _, iov_len: p.len() };
                    ("writev".into(), libc::writev(fd, [part(a), part(b)].as_ptr(), 2))
                }
                2 => {
                    let to = self.socket();
                    let addr = self.destination(slot, to);
                    let result = libc::sendto(fd, bytes.as_ptr().cast(), len, 0, addr.at(), addr.len);
                    (format!("sendto {to}"), result)
                }
                _ => {
                    let flags = self.numbers.one_of(&[0, libc::MSG_NOSIGNAL, libc::MSG_DONTWAIT, libc::MSG_MORE]);
                    // Corked bytes wait: for TCP that is a matter of time.
                    let flags = if stream { flags & !libc::MSG_MORE } else { flags };
                    (format!("send {flags}"), libc::send(fd, bytes.as_ptr().cast(), len, flags))
                }
            };
            self.note(format!("{what} {slot} {len} = {}", answer(result as i64)));
        }
    }

    /// A slot with something to read, if there is one.
    fn fed(&mut self) -> usize {
        let unread = |fd: i32| {
            let mut n = 0;
            // SAFETY: a local.
            if unsafe { libc::ioctl(fd, libc::FIONREAD, &mut n) } == 0 { n } else { 0 }
        };
        let fed: Vec<usize> = (0..self.slots.len()).filter(|i| unread(self.slots[*i].0) > 0).collect();
        if fed.is_empty() { self.any() } else { self.numbers.one_of(&fed) }
    }

    fn receive(&mut self) {
        let slot = if self.numbers.below(3) == 0 { self.any() } else { self.fed() };
        let len = self.numbers.one_of(&[0, 1, 8, 50, 4096, 100_000]);
        let mut bytes = vec![0; len];
        let fd = self.fd(slot);
        // SAFETY: buffers and addresses of their lengths.
        unsafe {
            let (what, result, more) = match self.numbers.below(4) {
                0 => ("read".to_owned(), libc::read(fd, bytes.as_mut_ptr().cast(), len), String::new()),
                1 => {
                    let mut peer = Addr::new();
                    let out = peer.bytes.as_mut_ptr().cast();
                    let result = libc::recvfrom(fd, bytes.as_mut_ptr().cast(), len, 0, out, &mut peer.len);
                    let shown = if result >= 0 && peer.len != 128 { self.show(&peer, slot) } else { String::new() };
                    ("recvfrom".to_owned(), result, shown)
                }
                2 => {
                    let (a, b) = bytes.split_at_mut(len / 2);
                    let mut parts = [a, b].map(|p| libc::iovec { iov_base: p.as_mut_ptr().cast(), iov_len: p.len() });
                    let mut message: libc::msghdr = zeroed();
                    let mut peer = Addr::new();
                    message.msg_name = peer.bytes.as_mut_ptr().cast();
                    message.msg_namelen = peer.len;
                    message.msg_iov = parts.as_mut_ptr();
                    message.msg_iovlen = 2;
                    let result = libc::recvmsg(fd, &mut message, 0);
                    peer.len = message.msg_namelen;
                    let shown = if result >= 0 { self.show(&peer, slot) } else { String::new() };
                    ("recvmsg".to_owned(), result, format!("{shown} flags {}", message.msg_flags & libc::MSG_TRUNC))
                }
                _ => {
                    let tcp = matches!(self.slots.get(slot), Some((_, Kind::Socket(f, libc::SOCK_STREAM))) if *f != libc::AF_UNIX);
                    let all = [0, libc::MSG_PEEK, libc::MSG_TRUNC, libc::MSG_PEEK | libc::MSG_TRUNC, libc::MSG_WAITALL];
                    // What TCP leaves in the buffer when it throws bytes away is nobody's business.
                    let flags = self.numbers.one_of(&all) & !if tcp { libc::MSG_TRUNC } else { 0 };
                    (format!("recv {flags}"), libc::recv(fd, bytes.as_mut_ptr().cast(), len, flags), String::new())
                }
            };
            let shown = answer(result as i64);
            let got = sum(&bytes[..(result.max(0) as usize).min(len)]);
            self.note(format!("{what} {slot} {len} = {shown} {got} {more}"));
        }
    }

    fn option(&mut self) {
        let slot = self.socket();
        let options = [
            (libc::SOL_SOCKET, libc::SO_ERROR),
            (libc::SOL_SOCKET, libc::SO_ERROR),
            (libc::SOL_SOCKET, libc::SO_TYPE),
            (libc::SOL_SOCKET, libc::SO_DOMAIN),
            (libc::SOL_SOCKET, libc::SO_PROTOCOL),
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::SO_BROADCAST),
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            (libc::SOL_SOCKET, libc::SO_LINGER),
            (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
            (libc::IPPROTO_IP, libc::IP_TTL),
            (libc::IPPROTO_IP, libc::IP_TOS),
            (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
            (libc::SOL_SOCKET, 9999),
        ];
        let (level, name) = self.numbers.one_of(&options);
        let (mut value, mut len) = ([0i32; 4], self.numbers.one_of(&[4, 4, 16, 2]));
        // SAFETY: a value of 16 bytes.
        unsafe {
            let fd = self.fd(slot);
            if self.numbers.below(3) > 0 {
                let result = libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &mut len);
                let shown = if result < 0 { answer(-1) } else { format!("{value:?} len {len}") };
                return self.note(format!("getsockopt {slot} {level} {name} = {shown}"));
            }
            value = [self.numbers.one_of(&[0, 1, 1, 2, 64, 300, -1]), 0, 0, 0];
            let result = libc::setsockopt(fd, level, name, value.as_ptr().cast(), len);
            self.note(format!("setsockopt {slot} {level} {name} {} len {len} = {}", value[0], answer(result as i64)));
        }
    }

    fn poll(&mut self) {
        let slot = self.any();
        let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP | libc::POLLRDNORM | libc::POLLWRNORM;
        let mut one = libc::pollfd { fd: self.fd(slot), events, revents: 0 };
        // SAFETY: one local.
        let result = unsafe { libc::poll(&mut one, 1, 0) };
        self.note(format!("poll {slot} = {} {:#x}", answer(result as i64), one.revents));
    }

    fn watch(&mut self) {
        let (epoll, slot) = (self.pick(|k| k == Kind::Epoll), self.any());
        let operation =
            self.numbers.one_of(&[libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL]);
        let (read, write) = (libc::EPOLLIN | libc::EPOLLRDHUP, libc::EPOLLOUT);
        let events = self.numbers.one_of(&[read, read | write, write, 0])
            | self.numbers.one_of(&[0, libc::EPOLLET, libc::EPOLLET, libc::EPOLLONESHOT]);
        let edges_of_room = events & libc::EPOLLET != 0;
        let events = if edges_of_room { events & !libc::EPOLLOUT } else { events };
        let mut event = libc::epoll_event { events: events as u32, u64: slot as u64 };
        // SAFETY: a local.
        let result = unsafe { libc::epoll_ctl(self.fd(epoll), operation, self.fd(slot), &mut event) };
        self.note(format!("epoll_ctl {epoll} {operation} {slot} {events:#x} = {}", answer(result as i64)));
    }

    fn events(&mut self) {
        let epoll = self.pick(|k| k == Kind::Epoll);
        if !matches!(self.slots.get(epoll), Some((_, Kind::Epoll))) {
            return self.make();
        }
        // SAFETY: room for sixteen.
        unsafe {
            let mut out: [libc::epoll_event; 16] = zeroed();
            let result = libc::epoll_wait(self.fd(epoll), out.as_mut_ptr(), 16, 0);
            let mut found: Vec<(u64, u32)> = out[..result.max(0) as usize].iter().map(|e| (e.u64, e.events)).collect();
            found.sort_unstable();
            let mut shown = answer(result as i64);
            for (data, events) in found {
                let _ = write!(shown, " {data}:{events:#x}");
            }
            self.note(format!("epoll_wait {epoll} = {shown}"));
        }
    }
}

fn in_a_world(seed: u64) -> Vec<String> {
    fn settle() {
        if let Some(world) = World::current() {
            world.let_due_happen();
        }
    }
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    let mut config = Config::default();
    config.loopback.latency = std::time::Duration::ZERO;
    world.plug(Net::with_config(config));
    let node = world.node("kv0");
    let _on = interpose::enable();
    let log = world.block_on(node, async move { Sequence::new(seed, settle).run() }, Spawn::named("the sequence"));
    log.expect("the run passes")
}

fn on_the_kernel(seed: u64, pause_ms: u64) -> Vec<String> {
    let pause = move || {
        if pause_ms > 0 {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        }
    };
    Sequence::new(seed, pause).run()
}

/// The first call that differs, with those before it.
fn difference(seed: u64) -> Option<String> {
    let ours = in_a_world(seed);
    let mut theirs = Vec::new();
    for pause_ms in [0, 3, 20] {
        theirs = on_the_kernel(seed, pause_ms);
        if ours == theirs {
            return None;
        }
    }
    let at = (0..ours.len().max(theirs.len())).find(|i| ours.get(*i) != theirs.get(*i))?;
    let shown: Vec<&str> = ours[..at].iter().map(String::as_str).collect();
    Some(format!("seed {seed}\n  {}\nhere:   {:?}\nkernel: {:?}", shown.join("\n  "), ours.get(at), theirs.get(at)))
}

#[test]
fn sequences_of_calls_have_the_results_of_the_kernel() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let first = variable("SIM_FIRST").unwrap_or(0);
    let count = variable("SIM_SEQUENCES").unwrap_or(1_000);
    let most = variable("SIM_DIFFERENCES").unwrap_or(1) as usize;
    let found: Vec<String> = (first..first + count).filter_map(difference).take(most).collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
    // It would prove nothing if hardly any call did something.
    let done: Vec<String> = (0..50).flat_map(in_a_world).collect();
    let bytes = done.iter().filter(|l| l.starts_with("recv") && !l.contains("= -") && !l.contains("= 0 ")).count();
    let told = done.iter().filter(|l| l.starts_with("epoll_wait") && l.contains(':')).count();
    assert!(bytes > 20 && told > 10, "{bytes} receives, {told} events");
    assert_eq!(size_of::<libc::epoll_event>(), 12);
}
