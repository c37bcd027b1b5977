//! Sockets and descriptors inside a run, as std and callers of libc reach them.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use sim_core::{Choices, Settings, Spawn, Verdict, World};
use sim_libc::interpose;
use sim_libc::sockets::{Moment, Rest, Steps, Timers, events, is_drained, step};
use sim_net::{Config, Net};
use std::cell::RefCell;
use std::ffi::CStr;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Runs `program` on a node called `kv0`, with symbols interposed.
fn run<T: 'static>(seed: u64, program: impl FnOnce(&'static World) -> T + 'static) -> Result<T, Verdict> {
    run_over(Net::new(), seed, program)
}

fn run_over<T: 'static>(
    net: Net,
    seed: u64,
    program: impl FnOnce(&'static World) -> T + 'static,
) -> Result<T, Verdict> {
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
    let world = entered.world();
    world.plug(net);
    let node = world.node("kv0");
    let _on = interpose::enable();
    world.block_on(node, async move { program(world) }, Spawn::named("the program"))
}

fn passes<T: 'static>(program: impl FnOnce(&'static World) -> T + 'static) -> T {
    run(1, program).expect("the run passes")
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn errno(result: i32) -> i32 {
    check(result).expect_err("the call fails").raw_os_error().expect("with a number")
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A connection within the node: the side that connected, and the other.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(anywhere()).expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (server, peer) = listener.accept().expect("the other side");
    assert_eq!(peer, client.local_addr().expect("an address"));
    (client, server)
}

#[test]
fn std_threads_talk_over_tcp() {
    let echoed = passes(|_| {
        let listener = TcpListener::bind(anywhere()).expect("a listener");
        let to = listener.local_addr().expect("its address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("what the client sends");
            stream.write_all(&all).expect("room");
            all.len()
        });
        let mut client = TcpStream::connect(to).expect("a connection");
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7) as u8).collect();
        client.write_all(&sent).expect("room");
        client.shutdown(Shutdown::Write).expect("a stream");
        let mut back = Vec::new();
        client.read_to_end(&mut back).expect("the echo");
        assert!(sent == back, "{} bytes came back", back.len());
        server.join().expect("the server ends")
    });
    assert_eq!(echoed, 1_000_000);
}

#[test]
fn numbers_begin_at_32_and_the_lowest_is_used_again() {
    passes(|_| {
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind(anywhere()).expect("a socket")).collect();
        let numbers: Vec<RawFd> = sockets.iter().map(|s| s.as_raw_fd()).collect();
        assert_eq!(numbers, [32, 33, 34]);
        let mut sockets = sockets;
        drop(sockets.remove(1));
        let clone = sockets[0].try_clone().expect("a clone");
        assert_eq!(clone.as_raw_fd(), 33);
        // SAFETY: numbers only.
        unsafe {
            assert_eq!(libc::fcntl(33, libc::F_GETFD), libc::FD_CLOEXEC);
            assert_eq!(libc::dup(32), 35);
            assert_eq!(libc::fcntl(35, libc::F_GETFD), 0);
            assert_eq!(libc::close(35), 0);
            assert_eq!(errno(libc::close(35)), libc::EBADF);
            assert_eq!(errno(libc::listen(77, 1)), libc::EBADF);
            assert_eq!(libc::fcntl(32, libc::F_DUPFD_CLOEXEC, 40), 40);
            assert_eq!(libc::close(40), 0);
        }
    });
}

/// fstat said EBADF of whatever is no file, and tokio's pipes ask by it what they were given.
#[test]
fn descriptors_say_what_they_are() {
    passes(|_| {
        let (stream, _peer) = pair();
        let mut ends = [0; 2];
        // SAFETY: room for two numbers, and numbers.
        let events = unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            [libc::eventfd(0, 0), libc::epoll_create1(0), libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)]
        };
        let kinds = [(stream.as_raw_fd(), libc::S_IFSOCK), (ends[0], libc::S_IFIFO), (ends[1], libc::S_IFIFO)];
        let mut inodes = Vec::new();
        for (fd, kind) in kinds.into_iter().chain(events.map(|fd| (fd, 0))) {
            // SAFETY: structures of numbers, for which zero is a value, and an empty C string.
            let (plain, named, extended) = unsafe {
                let mut plain: [libc::stat; 2] = std::mem::zeroed();
                let mut extended: libc::statx = std::mem::zeroed();
                let [by_number, by_name] = &mut plain;
                assert_eq!(libc::fstat(fd, by_number), 0, "{}", io::Error::last_os_error());
                assert_eq!(libc::fstatat(fd, c"".as_ptr(), by_name, libc::AT_EMPTY_PATH), 0);
                assert_eq!(libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_ALL, &mut extended), 0);
                (plain[0], plain[1], extended)
            };
            assert_eq!((plain.st_mode & libc::S_IFMT, plain.st_nlink), (kind, 1));
            assert_eq!((named.st_mode, u32::from(extended.stx_mode)), (plain.st_mode, plain.st_mode));
            assert_eq!((named.st_ino, extended.stx_ino), (plain.st_ino, plain.st_ino));
            inodes.push(plain.st_ino);
        }
        inodes.sort_unstable();
        inodes.dedup();
        assert_eq!(inodes.len(), 6);
        // SAFETY: numbers; no memory is mapped.
        unsafe {
            let none = std::ptr::null_mut();
            assert_eq!(libc::mmap(none, 4096, libc::PROT_READ, libc::MAP_SHARED, ends[0], 0), libc::MAP_FAILED);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENODEV));
            assert_eq!(errno(libc::fchdir(ends[0])), libc::ENOTDIR);
        }
    });
}

/// sendfile from a file of the kernel's went there with a number that the kernel does not know.
#[test]
fn files_are_sent_over_sockets() {
    let real = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let expected = std::fs::read(&real).expect("real");
    let sent = passes(move |world| {
        world.plug(sim_libc::files::disk());
        let mut all = Vec::new();
        for path in [real.as_path(), std::path::Path::new("/proc/self/mountinfo")] {
            let (stream, mut peer) = pair();
            let file = std::fs::File::open(path).expect("there");
            let mut at = 3;
            // SAFETY: numbers, and the address of a local.
            let n = unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), &mut at, 10) };
            assert_eq!((n, at), (10, 13), "{}: {}", path.display(), io::Error::last_os_error());
            // SAFETY: numbers.
            let n = unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), 3) };
            assert_eq!(n, 3);
            let mut bytes = [0; 13];
            peer.read_exact(&mut bytes).expect("they were sent");
            all.push(bytes);
            let mut ends = [0; 2];
            // SAFETY: room for two numbers, and numbers.
            unsafe {
                assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
                let none = std::ptr::null_mut();
                assert_eq!(libc::splice(file.as_raw_fd(), none, ends[1], none, 9, 0), -1);
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EINVAL));
            }
        }
        all
    });
    assert_eq!(sent[0], [&expected[3..13], &expected[..3]].concat()[..]);
    assert_ne!(sent[1], [0; 13]);
}

#[test]
fn datagrams_travel_and_are_cut() {
    passes(|_| {
        let a = UdpSocket::bind(anywhere()).expect("a socket");
        let b = UdpSocket::bind(anywhere()).expect("a socket");
        let (to_a, to_b) = (a.local_addr().expect("bound"), b.local_addr().expect("bound"));
        assert_eq!(a.send_to(b"longer than there is room", to_b).expect("sent"), 25);
        a.send_to(b"", to_b).expect("sent");
        let mut out = [0; 6];
        assert_eq!(b.peek_from(&mut out).expect("a datagram"), (6, to_a));
        assert_eq!(b.recv_from(&mut out).expect("a datagram"), (6, to_a));
        assert_eq!(&out, b"longer");
        assert_eq!(b.recv_from(&mut out).expect("a datagram"), (0, to_a));
        b.set_nonblocking(true).expect("a socket");
        assert_eq!(b.recv_from(&mut out).expect_err("nothing left").kind(), ErrorKind::WouldBlock);
        b.connect(to_a).expect("a destination");
        assert_eq!(b.peer_addr().expect("connected"), to_a);
        b.send(b"back").expect("sent");
        assert_eq!(a.recv(&mut out).expect("a datagram"), 4);
    });
}

/// These options were kept and had no effect.
#[test]
fn recvmsg_tells_what_was_asked_about_a_datagram_and_what_is_not_modelled_is_refused() {
    passes(|_| {
        let (a, b) = (UdpSocket::bind(anywhere()).expect("a socket"), UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        let set = |level, name, on: i32| {
            // SAFETY: numbers, and the address of one.
            unsafe { check(libc::setsockopt(b.as_raw_fd(), level, name, (&raw const on).cast(), 4)) }
        };
        for name in [libc::IP_PKTINFO, libc::IP_RECVTOS] {
            set(libc::IPPROTO_IP, name, 1).expect("an option");
        }
        for (name, value) in [(libc::SO_TIMESTAMP, 1), (libc::SO_PASSCRED, 1), (libc::SO_RCVLOWAT, 9)] {
            let refused = set(libc::SOL_SOCKET, name, value).expect_err("not modelled");
            assert_eq!(refused.raw_os_error(), Some(libc::ENOPROTOOPT));
        }
        set(libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1).expect("as it is");
        let to = (Ipv4Addr::LOCALHOST, b.local_addr().expect("bound").port());
        let receive = |room: usize| {
            a.send_to(b"x", to).expect("sent");
            let (mut byte, mut control) = ([0u8; 1], [0u64; 16]);
            let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
            // SAFETY: a structure for which zero is a value; buffers of the lengths given, which live across the calls.
            unsafe {
                let mut message: libc::msghdr = std::mem::zeroed();
                (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
                (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), room);
                assert_eq!(libc::recvmsg(b.as_raw_fd(), &mut message, 0), 1);
                let mut told = Vec::new();
                let mut at = libc::CMSG_FIRSTHDR(&message);
                while let Some(header) = at.as_ref() {
                    let value = std::slice::from_raw_parts(libc::CMSG_DATA(at), header.cmsg_len - 16).to_vec();
                    told.push((header.cmsg_level, header.cmsg_type, value));
                    at = libc::CMSG_NXTHDR(&message, at);
                }
                (told, message.msg_flags)
            }
        };
        let info = (libc::IPPROTO_IP, libc::IP_PKTINFO, vec![1, 0, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        let tos = (libc::IPPROTO_IP, libc::IP_TOS, vec![0]);
        assert_eq!(receive(128), (vec![info.clone(), tos], 0));
        assert_eq!(receive(32), (vec![info], libc::MSG_CTRUNC));
    });
}

#[test]
fn timeouts_of_sockets_take_virtual_time() {
    passes(|world| {
        let socket = UdpSocket::bind(anywhere()).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        assert_eq!(socket.read_timeout().expect("kept"), Some(Duration::from_secs(30)));
        let began = Instant::now();
        assert_eq!(socket.recv(&mut [0]).expect_err("nobody sends").kind(), ErrorKind::WouldBlock);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        let nobody: SocketAddr = (Ipv4Addr::LOCALHOST, 9).into();
        assert_eq!(TcpStream::connect(nobody).expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
        let patience = Duration::from_secs(2);
        let lost: SocketAddr = (Ipv4Addr::new(10, 9, 9, 9), 80).into();
        assert_eq!(TcpStream::connect_timeout(&lost, patience).expect_err("no machine").kind(), ErrorKind::TimedOut);
        assert_eq!(world.now().0 / 1_000_000_000, 32);
    });
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Epoll {
        // SAFETY: the number was just made.
        unsafe { Epoll(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC)).expect("an epoll"))) }
    }

    fn add(&self, fd: RawFd, events: i32, data: u64) -> io::Result<i32> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, data)
    }

    fn control(&self, operation: i32, fd: RawFd, events: i32, data: u64) -> io::Result<i32> {
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: a local.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) })
    }

    fn wait(&self, timeout_ms: i32) -> Vec<(u64, i32)> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: room for as many events as is said.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 8, timeout_ms) };
        let n = check(n).expect("a wait");
        events[..n as usize].iter().map(|e| (e.u64, e.events as i32)).collect()
    }
}

fn eventfd(count: u32, flags: i32) -> std::fs::File {
    // SAFETY: the number was just made.
    unsafe { std::fs::File::from_raw_fd(check(libc::eventfd(count, flags)).expect("an eventfd")) }
}

#[test]
fn an_edge_is_told_once_and_a_level_as_long_as_it_lasts() {
    passes(|_| {
        let (mut client, server) = pair();
        let (edge, level) = (Epoll::new(), Epoll::new());
        let fd = server.as_raw_fd();
        edge.add(fd, libc::EPOLLIN | libc::EPOLLET, 1).expect("added");
        level.add(fd, libc::EPOLLIN, 2).expect("added");
        assert_eq!(edge.add(fd, libc::EPOLLIN, 1).expect_err("it is there").raw_os_error(), Some(libc::EEXIST));
        assert_eq!((edge.wait(0), level.wait(0)), (vec![], vec![]));
        client.write_all(b"one").expect("room");
        assert_eq!(edge.wait(-1), [(1, libc::EPOLLIN)]);
        assert_eq!(edge.wait(0), []);
        assert_eq!((level.wait(-1), level.wait(0)), (vec![(2, libc::EPOLLIN)], vec![(2, libc::EPOLLIN)]));
        // More of the same is an edge again.
        client.write_all(b"two").expect("room");
        assert_eq!(edge.wait(-1), [(1, libc::EPOLLIN)]);
        (&server).read_exact(&mut [0; 6]).expect("six bytes");
        assert_eq!((edge.wait(0), level.wait(0)), (vec![], vec![]));
        level
            .control(libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLONESHOT, 3)
            .expect("known");
        drop(client);
        assert_eq!(level.wait(-1), [(3, libc::EPOLLIN | libc::EPOLLRDHUP)]);
        assert_eq!(level.wait(0), []);
        level.control(libc::EPOLL_CTL_DEL, fd, 0, 0).expect("known");
        assert_eq!(level.control(libc::EPOLL_CTL_DEL, fd, 0, 0).expect_err("gone").raw_os_error(), Some(libc::ENOENT));
    });
}

#[test]
fn an_eventfd_wakes_a_thread_that_waits_in_epoll() {
    passes(|world| {
        let epoll = Epoll::new();
        let mut waker = eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        epoll.add(waker.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, 9).expect("added");
        let mut twin = waker.try_clone().expect("a clone");
        let thread = std::thread::spawn(move || {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_secs(5));
                twin.write_all(&1u64.to_ne_bytes()).expect("written");
            }
        });
        for i in 1..=3 {
            assert_eq!(epoll.wait(-1), [(9, libc::EPOLLIN)]);
            assert_eq!(world.now().0 / 1_000_000_000, 5 * i);
        }
        assert_eq!(epoll.wait(20), []);
        let mut count = [0; 8];
        waker.read_exact(&mut count).expect("a number");
        assert_eq!(u64::from_ne_bytes(count), 3);
        assert_eq!(waker.read(&mut count).expect_err("nothing").kind(), ErrorKind::WouldBlock);
        assert_eq!(waker.write(&[0; 4]).expect_err("too short").kind(), ErrorKind::InvalidInput);
        thread.join().expect("it ends");
    });
}

/// mini-redis' `key_value_timeout` hung. Its runtime's clock is paused, and moves when a park brings nothing for the future
/// of the `block_on`; the reply was on its way to that, but the epoll_wait had something else to say and did not look.
#[test]
fn what_a_machine_sent_to_itself_comes_with_what_was_ready_before_it() {
    let mut config = Config::default();
    config.loopback.latency = Duration::ZERO;
    let ready = run_over(Net::with_config(config), 1, |_| {
        let (mut client, server) = pair();
        let other = eventfd(1, 0);
        let epoll = Epoll::new();
        epoll.add(other.as_raw_fd(), libc::EPOLLIN, 1).expect("added");
        epoll.add(server.as_raw_fd(), libc::EPOLLIN, 2).expect("added");
        client.write_all(b"!").expect("room");
        epoll.wait(0)
    });
    assert_eq!(ready, Ok(vec![(1, libc::EPOLLIN), (2, libc::EPOLLIN)]));
}

#[test]
fn an_epoll_in_an_epoll_is_ready_when_something_in_it_is() {
    passes(|_| {
        let (outer, inner) = (Epoll::new(), Epoll::new());
        let mut waker = eventfd(0, 0);
        outer.add(inner.0.as_raw_fd(), libc::EPOLLIN, 1).expect("added");
        inner.add(waker.as_raw_fd(), libc::EPOLLIN, 2).expect("added");
        let loops = inner.add(outer.0.as_raw_fd(), libc::EPOLLIN, 3).expect_err("a loop");
        assert_eq!(loops.raw_os_error(), Some(libc::ELOOP));
        assert_eq!(outer.wait(5), []);
        waker.write_all(&7u64.to_ne_bytes()).expect("written");
        assert_eq!(outer.wait(-1), [(1, libc::EPOLLIN)]);
        assert_eq!(inner.wait(-1), [(2, libc::EPOLLIN)]);
        drop(waker);
        assert_eq!(outer.wait(0), []);
    });
}

#[test]
fn poll_and_select_wait_for_any() {
    passes(|world| {
        let (mut client, server) = pair();
        let mut list = [
            libc::pollfd { fd: server.as_raw_fd(), events: libc::POLLIN, revents: 9 },
            libc::pollfd { fd: client.as_raw_fd(), events: libc::POLLOUT, revents: 9 },
            libc::pollfd { fd: -1, events: libc::POLLIN, revents: 9 },
            libc::pollfd { fd: 99, events: libc::POLLIN, revents: 9 },
            libc::pollfd { fd: 1, events: libc::POLLOUT, revents: 9 },
        ];
        // SAFETY: a local list of five.
        unsafe {
            assert_eq!(libc::poll(list.as_mut_ptr(), 5, -1), 3);
            assert_eq!(list.map(|p| p.revents), [0, libc::POLLOUT, 0, libc::POLLNVAL, libc::POLLOUT]);
            let now = world.now();
            assert_eq!(libc::poll(list.as_mut_ptr(), 1, 250), 0);
            assert_eq!(world.now() - now, Duration::from_millis(250));
            client.write_all(b"x").expect("room");
            assert_eq!(libc::poll(list.as_mut_ptr(), 1, -1), 1);
            assert_eq!(list[0].revents, libc::POLLIN);

            let mut set: libc::fd_set = std::mem::zeroed();
            libc::FD_SET(server.as_raw_fd(), &mut set);
            libc::FD_SET(client.as_raw_fd(), &mut set);
            let null = std::ptr::null_mut();
            assert_eq!(libc::select(64, &mut set, null, null, null.cast()), 1);
            assert!(libc::FD_ISSET(server.as_raw_fd(), &set) && !libc::FD_ISSET(client.as_raw_fd(), &set));
        }
    });
}

#[test]
fn a_timerfd_fires_in_virtual_time() {
    passes(|world| {
        // SAFETY: the number was just made; locals.
        let (mut timer, spec) = unsafe {
            let fd = check(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC)).expect("a timer");
            let time = |s, ns| libc::timespec { tv_sec: s, tv_nsec: ns };
            (std::fs::File::from_raw_fd(fd), libc::itimerspec { it_interval: time(10, 0), it_value: time(1, 5) })
        };
        // SAFETY: locals.
        unsafe { assert_eq!(libc::timerfd_settime(timer.as_raw_fd(), 0, &spec, std::ptr::null_mut()), 0) };
        let epoll = Epoll::new();
        epoll.add(timer.as_raw_fd(), libc::EPOLLIN, 1).expect("added");
        assert_eq!(epoll.wait(-1), [(1, libc::EPOLLIN)]);
        assert_eq!(world.now().0, 1_000_000_005);
        let mut count = [0; 8];
        timer.read_exact(&mut count).expect("a number");
        assert_eq!(u64::from_ne_bytes(count), 1);
        world.spend(Duration::from_secs(25));
        timer.read_exact(&mut count).expect("a number");
        assert_eq!((u64::from_ne_bytes(count), world.now().0), (2, 26_000_000_005));
        timer.read_exact(&mut count).expect("a number");
        assert_eq!((u64::from_ne_bytes(count), world.now().0), (1, 31_000_000_005));
    });
}

#[test]
fn a_connection_under_way_is_told_by_epoll_as_tokio_asks_it() {
    passes(|_| {
        let listener = TcpListener::bind(anywhere()).expect("a listener");
        let to = listener.local_addr().expect("its address");
        for (port, outcome) in [(to.port(), 0), (9, libc::ECONNREFUSED)] {
            let epoll = Epoll::new();
            // SAFETY: the number was just made; locals.
            unsafe {
                let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let fd = check(libc::socket(libc::AF_INET, kind, 0)).expect("a socket");
                let stream = TcpStream::from_raw_fd(fd);
                let address = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: port.to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
                    sin_zero: [0; 8],
                };
                assert_eq!(errno(libc::connect(fd, (&raw const address).cast(), 16)), libc::EINPROGRESS);
                assert_eq!(stream.peer_addr().expect_err("not yet").raw_os_error(), Some(libc::ENOTCONN));
                let all = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
                epoll.add(fd, all, 1).expect("added");
                let told = epoll.wait(-1);
                let failed = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
                assert_eq!(told, [(1, if outcome == 0 { libc::EPOLLOUT } else { failed })]);
                let error = stream.take_error().expect("an option").and_then(|e| e.raw_os_error());
                assert_eq!(error.unwrap_or(0), outcome);
                assert_eq!(stream.peer_addr().is_ok(), outcome == 0);
            }
        }
    });
}

#[test]
fn the_same_calls_by_number_have_the_same_answers() {
    passes(|_| {
        // SAFETY: numbers and locals.
        unsafe {
            let fd = libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0) as i32;
            assert_eq!(fd, 32);
            let mut byte = 0u8;
            let flags = libc::MSG_DONTWAIT;
            assert_eq!(libc::syscall(libc::SYS_recvfrom, fd, &mut byte, 1, flags, 0, 0), -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
            assert_eq!(libc::syscall(libc::SYS_close, fd), 0);
            assert_eq!(libc::syscall(libc::SYS_close, fd), -1);
        }
    });
}

#[test]
fn unix_sockets_have_names_ends_and_owners() {
    passes(|_| {
        let (mut a, mut b) = UnixStream::pair().expect("a pair");
        a.write_all(b"over the wall").expect("room");
        let mut out = [0; 13];
        b.read_exact(&mut out).expect("bytes");
        assert_eq!(&out, b"over the wall");
        drop(a);
        assert_eq!(b.read(&mut out).expect("the end"), 0);
        assert_eq!(b.write(b"x").expect_err("nobody reads").kind(), ErrorKind::BrokenPipe);

        let listener = UnixListener::bind("/run/kv.sock").expect("a listener");
        assert_eq!(UnixListener::bind("/run/kv.sock").expect_err("taken").kind(), ErrorKind::AddrInUse);
        let client = std::thread::spawn(|| {
            let mut stream = UnixStream::connect("/run/kv.sock").expect("a connection");
            let mut all = String::new();
            stream.read_to_string(&mut all).expect("the end");
            let peer = stream.peer_addr().expect("connected");
            assert_eq!(peer.as_pathname(), Some(std::path::Path::new("/run/kv.sock")));
            all
        });
        let (mut stream, peer) = listener.accept().expect("a connection");
        assert!(peer.is_unnamed());
        let mut owner = libc::ucred { pid: 0, uid: 9, gid: 9 };
        let mut len = size_of::<libc::ucred>() as u32;
        // SAFETY: locals.
        unsafe {
            let (fd, out) = (stream.as_raw_fd(), (&raw mut owner).cast());
            assert_eq!(libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, out, &mut len), 0);
            assert_eq!((owner.pid, owner.uid), (libc::getpid(), libc::geteuid()));
        }
        stream.write_all(b"hello").expect("room");
        drop(stream);
        assert_eq!(client.join().expect("it ends"), "hello");
        assert_eq!(UnixStream::connect("/run/none").expect_err("no such name").kind(), ErrorKind::NotFound);

        let (one, two) = UnixDatagram::pair().expect("a pair");
        one.send(b"first").expect("room");
        one.send(b"second").expect("room");
        assert_eq!(two.recv(&mut out).expect("a message"), 5);
        assert_eq!(two.recv(&mut out[..2]).expect("a message"), 2);
        two.set_nonblocking(true).expect("a socket");
        assert_eq!(two.recv(&mut out).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_pipe_holds_64_kib_and_then_makes_its_writer_wait() {
    passes(|world| {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let slow = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(3));
            let mut all = Vec::new();
            reader.read_to_end(&mut all).expect("the end");
            all.len()
        });
        writer.write_all(&[7; 65_536]).expect("room");
        assert_eq!(world.now().0, 0);
        writer.write_all(&[7; 10]).expect("room, later");
        assert_eq!(world.now().0, 3_000_000_000);
        drop(writer);
        assert_eq!(slow.join().expect("it ends"), 65_546);
    });
}

/// A server of hyper-util's tests reads on and on after the end of a connection. It never waited, so no other thread ran, and
/// the run was stuck. A thread that looks for a datagram, or at the clock, until another has done something was the same.
#[test]
fn who_calls_in_vain_over_and_over_lets_others_go_on() {
    /// Repeats `call` until another thread, which sleeps first, says that it is enough. How long that took.
    fn until_told(mut call: impl FnMut()) -> Duration {
        let told = Arc::new(AtomicBool::new(false));
        let tells = told.clone();
        let began = Instant::now();
        let sleeper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            tells.store(true, Relaxed);
        });
        while !told.load(Relaxed) {
            call();
        }
        sleeper.join().expect("it ends");
        began.elapsed()
    }
    let took = passes(|_| {
        let (mut ended, other) = pair();
        drop(other);
        let (mut unix, other) = UnixStream::pair().expect("a pair");
        drop(other);
        let (mut pipe, writer) = std::io::pipe().expect("a pipe");
        drop(writer);
        let empty = UdpSocket::bind(anywhere()).expect("an address");
        empty.set_nonblocking(true).expect("a socket");
        let hears_nothing = UdpSocket::bind(anywhere()).expect("an address");
        hears_nothing.set_nonblocking(true).expect("a socket");
        let (mut bytes, began) = ([0; 8], Instant::now());
        [
            until_told(|| assert_eq!(ended.read(&mut bytes).expect("the end"), 0)),
            until_told(|| assert_eq!(unix.read(&mut bytes).expect("the end"), 0)),
            until_told(|| assert_eq!(pipe.read(&mut bytes).expect("the end"), 0)),
            until_told(|| assert_eq!(empty.recv(&mut bytes).expect_err("nothing").kind(), ErrorKind::WouldBlock)),
            // What succeeds in between is no waiting either.
            until_told(|| {
                hears_nothing.send_to(b"beat", empty.local_addr().expect("bound")).expect("sent");
                assert_eq!(hears_nothing.recv(&mut bytes).expect_err("nothing").kind(), ErrorKind::WouldBlock);
            }),
            until_told(|| assert!(began <= Instant::now())),
        ]
    });
    for took in took {
        // What others wait for comes when it is due, not when the caller has had enough.
        assert!((20..21).contains(&took.as_millis()), "{took:?}");
    }
}

/// 25,000 tasks of bb8's tests each set a timeout, for which tokio reads the clock. Each of those readings let more time pass than
/// the one before, when it was taken for waiting, and the timeouts came before the tasks had had their turn.
#[test]
fn who_reads_the_clock_often_has_lost_no_more_than_a_microsecond_each_time() {
    let took = passes(|_| {
        let _there_are_threads = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(1)));
        let began = Instant::now();
        (0..50_000).for_each(|_| assert!(began <= Instant::now()));
        began.elapsed()
    });
    assert!(took <= Duration::from_micros(50_001), "{took:?}");
}

#[test]
fn closing_waits_for_the_peer_where_linger_says_so() {
    passes(|world| {
        let (mut client, mut server) = pair();
        let linger = libc::linger { l_onoff: 1, l_linger: 30 };
        // SAFETY: a local.
        unsafe {
            let (fd, value) = (client.as_raw_fd(), (&raw const linger).cast());
            assert_eq!(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, 8), 0);
        }
        client.write_all(b"last words").expect("room");
        let began = world.now();
        drop(client);
        let took = world.now() - began;
        assert!(took > Duration::ZERO && took < Duration::from_secs(1), "{took:?}");
        let mut all = String::new();
        server.read_to_string(&mut all).expect("the end");
        assert_eq!(all, "last words");
    });
}

#[test]
fn a_step_ends_where_the_loop_would_wait_and_says_until_when() {
    let waited = passes(|world| {
        let epoll = Epoll::new();
        let mut waker = eventfd(0, 0);
        epoll.add(waker.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, 5).expect("added");
        let told = std::cell::Cell::new(0);
        let steps = Steps::default();
        let step = |timeout| step(&steps, || assert_eq!(epoll.wait(timeout), []), |_| told.set(told.get() + 1));
        assert!(step(0).is_none() && told.get() == 0, "a runtime looks before it fires its timers");
        let looks = || (0..2).for_each(|_| assert_eq!(epoll.wait(0), []));
        let glance =
            sim_libc::sockets::step(&steps, looks, |_| told.set(told.get() + 1)).expect("it has nothing to do");
        assert_eq!((glance.until, told.get()), (world.now(), 1));
        let idle = step(-1).expect("it would wait");
        assert_eq!((idle.until, told.get()), (sim_core::Instant::NEVER, 2));
        let idle_ms = step(250).expect("it would wait");
        assert_eq!((idle_ms.until, told.get()), (world.now() + Duration::from_millis(250), 3));
        let idle = step(-1).expect("it would wait");
        assert_eq!((idle.until, world.now().0), (sim_core::Instant::NEVER, 0));
        told.set(3);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(idle.poll_ready(&mut cx).is_pending());
        waker.write_all(&1u64.to_ne_bytes()).expect("written");
        assert!(idle.poll_ready(&mut cx).is_ready());
        let mut found = Vec::new();
        assert!(sim_libc::sockets::step(&steps, || found = epoll.wait(-1), |_| unreachable!()).is_none());
        drop(epoll);
        assert!(idle.poll_ready(&mut cx).is_ready(), "who waits for what was closed must not wait for ever");
        found
    });
    assert_eq!(waited, [(5, libc::EPOLLIN)]);
}

#[test]
fn a_step_knows_without_its_drivers_what_there_is_to_do_and_until_when_it_rests() {
    passes(|world| {
        let epoll = Epoll::new();
        let mut source = eventfd(0, 0);
        epoll.add(source.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, 4096).expect("added");
        let (steps, timers) = (Steps::default(), Timers::default());
        let tick = || world.now().0 / 1_000_000;
        let rests = |moments: &[Moment]| {
            let mut found = Rest::Unknown;
            let idle = step(&steps, || moments.iter().for_each(|moment| found = timers.rest(*moment, tick)), |_| ());
            (found, idle.map(|idle| idle.until))
        };
        let rest = || rests(&[Moment::Parks]);
        let ms = |ms| Some(sim_core::Instant::ZERO + Duration::from_millis(ms));
        assert_eq!(rest(), (Rest::Unknown, None), "it has never waited");
        step(&steps, || assert!(epoll.wait(250).is_empty()), |_| ());
        assert_eq!(rest(), (Rest::Due, None), "its timers were never looked at");
        timers.fire();
        assert_eq!(rest(), (Rest::Nothing, Some(sim_core::Instant::NEVER)));
        timers.add(250);
        timers.add(300);
        assert_eq!(rest(), (Rest::Nothing, ms(250)));
        timers.add(100);
        assert_eq!(rest(), (Rest::Nothing, ms(100)));
        timers.take();
        assert_eq!(rest(), (Rest::Due, None), "the next one may be gone");
        timers.fire();
        timers.add(250);
        assert_eq!(rests(&[Moment::Begins]), (Rest::Nothing, None), "it has only begun");
        assert_eq!(rests(&[Moment::Yields]), (Rest::Nothing, None), "it has more to do");
        assert_eq!(rests(&[Moment::Yields; 2]), (Rest::Nothing, ms(0)), "others want to run too");
        source.write_all(&1u64.to_ne_bytes()).expect("written");
        assert_eq!(rest(), (Rest::Told, None));
        let mut told = Vec::new();
        step(&steps, || events(|event| told.push((event.token, event.readable, event.writable))), |_| ());
        assert_eq!(told, [(4096, true, false)]);
        assert_eq!(rest(), (Rest::Nothing, ms(250)));
        let mut own = eventfd(0, 0);
        epoll.add(own.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, 0).expect("added");
        own.write_all(&1u64.to_ne_bytes()).expect("written");
        assert_eq!(rest(), (Rest::Unknown, None), "its driver has to see to its own events");
        assert_eq!(epoll.wait(0).len(), 1);
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(rest(), (Rest::Due, None));
        source.write_all(&1u64.to_ne_bytes()).expect("written");
        assert_eq!(rest(), (Rest::DueAndTold, None));
        Timers::clock_pauses();
        assert_eq!(rest(), (Rest::Unknown, None), "what a tick is, tokio alone knows");
    });
}

#[test]
fn a_step_knows_that_a_source_was_read_until_nothing_is_left() {
    passes(|_| {
        let (mut client, mut server) = pair();
        let epoll = Epoll::new();
        epoll.add(server.as_raw_fd(), libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET, 4096).expect("added");
        let steps = Steps::default();
        let mut drained_after = |len: usize| {
            let mut drained = false;
            let read = || {
                server.read_exact(&mut vec![0; len]).expect("it is there");
                drained = is_drained(4096);
                assert!(!is_drained(4096), "it is told once");
            };
            step(&steps, read, |_| ());
            drained
        };
        client.write_all(b"abcdef").expect("room");
        assert_eq!(epoll.wait(-1).len(), 1);
        assert!(!drained_after(2), "there is more");
        assert!(drained_after(4));
        client.write_all(b"ghi").expect("room");
        drop(client);
        while epoll.wait(-1).iter().all(|(_, events)| events & libc::EPOLLRDHUP == 0) {}
        assert!(!drained_after(3), "the end of a stream is told of once, and must not be forgotten");
    });
}

#[test]
fn a_step_ends_where_the_loop_would_park_until_it_is_unparked() {
    passes(|world| {
        let steps = Steps::default();
        let hour = Duration::from_secs(3600);
        let park = |limit| sim_libc::sockets::step(&steps, || assert!(sim_libc::sockets::parks(7, limit)), |_| ());
        assert!(!sim_libc::sockets::parks(7, None), "no step runs");
        assert_eq!(park(Some(hour)).map(|idle| idle.until), Some(world.now() + hour));
        let idle = park(None).expect("it would wait");
        let woken = Arc::new(Told::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        sim_libc::sockets::unparks(8);
        assert!(idle.poll_ready(&mut cx).is_pending());
        sim_libc::sockets::unparks(7);
        assert!(woken.0.load(Relaxed) && idle.poll_ready(&mut cx).is_ready());
        assert!(park(None).expect("it would wait").poll_ready(&mut cx).is_pending(), "that was for the last time");
    });
}

/// Whether it was woken.
#[derive(Default)]
struct Told(AtomicBool);

impl std::task::Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn what_a_dead_incarnation_still_closes_is_its_own() {
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    world.plug(Net::new());
    let (dead, alive) = (world.node("dead"), world.node("alive"));
    let _on = interpose::enable();
    let numbers: Rc<RefCell<Vec<RawFd>>> = Rc::default();
    let kept = numbers.clone();
    world.start(
        dead,
        sim_core::program(move || {
            let kept = kept.clone();
            async move {
                let socket = UdpSocket::bind("0.0.0.0:7000").expect("a socket");
                // What its destructor does with a number that is another's by then, and with its own.
                struct Late(UdpSocket, RawFd);
                impl Drop for Late {
                    fn drop(&mut self) {
                        assert_eq!(
                            self.0.send_to(b"ghost", "10.0.0.2:7000").expect_err("dead").raw_os_error(),
                            Some(libc::EBADF)
                        );
                        // SAFETY: a number, which is not ours: what is tested.
                        assert_eq!(unsafe { libc::close(self.1) }, -1);
                    }
                }
                kept.borrow_mut().push(socket.as_raw_fd());
                let _late = Late(socket, 33);
                std::future::pending::<()>().await;
            }
        }),
        Spawn::named("dead"),
    );
    let outcome = world.block_on(
        alive,
        async move {
            sim_core::time::Timer::new(world.now() + Duration::from_secs(1)).await;
            let socket = UdpSocket::bind("0.0.0.0:7000").expect("a socket");
            assert_eq!(socket.as_raw_fd(), 33);
            world.end_node(dead, sim_core::Death::Kill);
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("an open socket");
            assert_eq!(socket.recv(&mut [0; 8]).expect_err("no ghosts").kind(), ErrorKind::WouldBlock);
            let again = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            again.as_raw_fd()
        },
        Spawn::named("alive"),
    );
    assert_eq!((outcome, numbers.borrow().as_slice()), (Ok(32), [32].as_slice()));
}

#[test]
fn names_and_interfaces_are_those_of_the_run() {
    passes(|world| {
        world.node("kv1");
        let look_up = |name: &str| name.to_socket_addrs().map(|all| all.map(|a| a.to_string()).collect::<Vec<_>>());
        assert_eq!(look_up("kv1:80").expect("a node"), ["10.0.0.2:80", "[fd00::2]:80"]);
        assert_eq!(look_up("localhost:1").expect("always"), ["127.0.0.1:1", "[::1]:1"]);
        assert_eq!(look_up("10.1.2.3:5").expect("an address"), ["10.1.2.3:5"]);
        assert!(look_up("example.com:80").expect_err("nobody").to_string().contains("Name or service not known"));

        let mut list = std::ptr::null_mut();
        // SAFETY: the list is libc's kind of list, read until its end and freed as libc frees it.
        unsafe {
            assert_eq!(libc::getifaddrs(&mut list), 0);
            let mut seen = Vec::new();
            let mut at = list;
            while let Some(entry) = at.as_ref() {
                let family = (*entry.ifa_addr).sa_family as i32;
                seen.push((CStr::from_ptr(entry.ifa_name).to_str().expect("ASCII"), family));
                at = entry.ifa_next;
            }
            let (lo, eth) = ("lo", "eth0");
            let (link, v4, v6) = (libc::AF_PACKET, libc::AF_INET, libc::AF_INET6);
            assert_eq!(seen, [(lo, link), (eth, link), (lo, v4), (lo, v6), (eth, v4), (eth, v6)]);
            libc::freeifaddrs(list);
            assert_eq!((libc::if_nametoindex(c"eth0".as_ptr()), libc::if_nametoindex(c"wlan7".as_ptr())), (2, 0));

            let mut hints: libc::addrinfo = std::mem::zeroed();
            hints.ai_socktype = libc::SOCK_STREAM;
            hints.ai_flags = libc::AI_PASSIVE;
            let mut found = std::ptr::null_mut();
            assert_eq!(libc::getaddrinfo(std::ptr::null(), c"https".as_ptr(), &hints, &mut found), 0);
            let port = (*(*found).ai_addr.cast::<libc::sockaddr_in>()).sin_port;
            assert_eq!(((*found).ai_family, u16::from_be(port)), (libc::AF_INET, 443));
            let (mut host, mut service) = ([0; 64], [0; 64]);
            let asked = libc::getnameinfo((*found).ai_addr, 16, host.as_mut_ptr(), 64, service.as_mut_ptr(), 64, 0);
            assert_eq!((asked, CStr::from_ptr(service.as_ptr())), (0, c"https"));
            libc::freeaddrinfo(found);
        }
    });
}

/// What a program does with the file of a Unix socket, step by step; each answer as text.
fn socket_files(dir: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    fn said<T>(what: &str, done: io::Result<T>) -> String {
        format!("{what}: {:?}", done.map(drop).map_err(|e| e.raw_os_error()))
    }
    let (path, file, moved, link) = (dir.join("s"), dir.join("file"), dir.join("t"), dir.join("link"));
    let before = std::env::current_dir().expect("there is one");
    let mut log = Vec::new();
    std::fs::write(&file, "x").expect("room");
    log.push(said("bind to a file", UnixListener::bind(&file)));
    log.push(said("connect to a file", UnixStream::connect(&file)));
    log.push(said("bind below a file", UnixListener::bind(file.join("s"))));
    log.push(said("bind in nothing", UnixListener::bind(dir.join("no/s"))));
    log.push(said("connect to nothing", UnixStream::connect(&path)));
    let listener = UnixListener::bind(&path).expect("a free name");
    let meta = std::fs::symlink_metadata(&path).expect("it is a file");
    log.push(format!("{} {:o} {}", meta.file_type().is_socket(), meta.mode() & !0o022, meta.len()));
    let entry = std::fs::read_dir(dir).expect("there").map(|e| e.expect("readable")).find(|e| e.file_name() == "s");
    log.push(format!("{}", entry.expect("it is listed").file_type().expect("known").is_socket()));
    log.push(said("open", std::fs::File::open(&path)));
    log.push(said("read", std::fs::read(&path)));
    log.push(said("bind again", UnixListener::bind(&path)));
    std::env::set_current_dir(dir).expect("it is there");
    log.push(said("relative", UnixStream::connect("s")));
    let relative = UnixDatagram::bind("./d").expect("a free name");
    std::env::set_current_dir(before).expect("it is there");
    log.push(format!("{:?}", relative.local_addr().expect("a name").as_pathname()));
    let sender = UnixDatagram::unbound().expect("a socket");
    log.push(said("send by its full path", sender.send_to(b"x", dir.join("d"))));
    log.push(said("received", relative.recv(&mut [0; 4])));
    log.push(said("another kind", UnixStream::connect(dir.join("d"))));
    std::os::unix::fs::symlink(&path, &link).expect("room");
    log.push(said("through a link", UnixStream::connect(&link)));
    log.push(said("bind to a link", UnixListener::bind(&link)));
    std::fs::rename(&path, &moved).expect("it is there");
    log.push(said("after a rename", UnixStream::connect(&moved)));
    log.push(said("by the old name", UnixStream::connect(&path)));
    log.push(format!("{:?}", listener.local_addr().expect("a name").as_pathname() == Some(&path)));
    let second = UnixListener::bind(&path).expect("the name is free");
    drop((listener, second));
    log.push(said("closed", UnixStream::connect(&path)));
    log.push(said("its file stays", UnixListener::bind(&path)));
    log.push(said("unlink", std::fs::remove_file(&path)));
    log.push(format!("{}", path.exists()));
    let again = UnixListener::bind(&path).expect("the name is free");
    std::fs::remove_file(&path).expect("it is there");
    log.push(said("unlinked", UnixStream::connect(&path)));
    drop(again);
    log.push(said("the directory", std::fs::remove_dir_all(dir)));
    log
}

/// A server that starts again removes the file of its predecessor first, and so must find it: the names of Unix sockets
/// once were the network's alone, where nobody could remove them.
#[test]
fn a_unix_socket_that_is_bound_to_a_path_is_a_file() {
    let dir = std::env::temp_dir().join(format!("sim-sockets-{}", std::process::id()));
    let inside = dir.clone();
    let ours = passes(move |world| {
        world.plug(sim_libc::files::disk());
        std::fs::create_dir(&inside).expect("a new name");
        socket_files(&inside)
    });
    assert!(!dir.exists(), "nothing real was made");
    std::fs::create_dir(&dir).expect("a new name");
    let theirs = socket_files(&dir);
    assert_eq!(ours, theirs);
    assert!(ours.iter().filter(|l| l.contains("Ok")).count() > 5, "{ours:#?}");
}

/// All machines of a run share one table of numbers. A process may have as many as lie below the kernel's own; a thousand
/// machines with a runtime each have more, and those lie where the kernel's never come.
#[test]
fn a_process_runs_out_of_descriptors_and_a_run_does_not() {
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    world.plug(Net::new());
    let _on = interpose::enable();
    // SAFETY: these calls take numbers only, of descriptors that each process made itself.
    let fill = || unsafe {
        let made: Vec<i32> = std::iter::repeat_with(|| libc::eventfd(7, 0)).take_while(|fd| *fd >= 0).collect();
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EMFILE));
        let last = *made.last().expect("some");
        assert_eq!(errno(libc::dup(last)), libc::EMFILE);
        assert_eq!(libc::close(made[100]), 0);
        assert_eq!(libc::dup(last), made[100], "the lowest free number");
        made
    };
    let counts = |fds: Vec<i32>| {
        fds.iter().for_each(|fd| {
            let mut count = 0u64;
            // SAFETY: a local of eight bytes.
            assert_eq!(unsafe { libc::read(*fd, (&raw mut count).cast(), 8) }, 8);
            assert_eq!(count, 7, "each number leads to its own");
            // SAFETY: a number of this process's.
            assert_eq!(unsafe { libc::close(*fd) }, 0);
            assert_eq!(errno(unsafe { libc::close(*fd) }), libc::EBADF);
        });
    };
    let on = |name: &str, body: Box<dyn FnOnce() -> Vec<i32>>| {
        let ran = world.block_on(world.node(name), async move { body() }, Spawn::named("a program"));
        ran.expect("the run goes on")
    };
    let first = on("kv0", Box::new(fill));
    assert_eq!((first[0], *first.last().expect("some"), first.len()), (32, 4095, 4064));
    let second = on("kv1", Box::new(fill));
    assert_eq!((second[0], second.len()), (1 << 20, 4064));
    // The number that the first machine gave back and took again leads to what another one leads to: nothing is left in it.
    let without_the_copy = |mut fds: Vec<i32>| {
        let copy = fds.remove(100);
        // SAFETY: a number of this process's.
        assert_eq!(unsafe { libc::close(copy) }, 0);
        fds
    };
    on("kv1", Box::new(move || (counts(without_the_copy(second)), Vec::new()).1));
    on("kv0", Box::new(move || (counts(without_the_copy(first)), Vec::new()).1));
    // Given back, they are the lowest again.
    // SAFETY: takes numbers only.
    let again = on("kv1", Box::new(|| vec![unsafe { libc::eventfd(0, 0) }]));
    assert_eq!(again, [32]);
}
