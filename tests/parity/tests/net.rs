//! Sockets on one machine: what peers see, and which error they get for what.

use parity::real::io::{AsyncReadExt, AsyncWriteExt};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A connected pair: the one that connected, the one that was accepted.
macro_rules! pair {
    () => {{
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }};
}

parity::both! { running:
    async fn a_free_port_is_found() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(addr.ip().is_loopback() && addr.port() != 0);
    }

    async fn a_port_in_use_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let again = tokio::net::TcpListener::bind(listener.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
    }

    async fn a_port_is_in_use_while_its_connections_are_unless_the_address_is_reused() {
        let bind = |addr, reuse| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(reuse).unwrap();
            socket.bind(addr).map(|()| socket).map_err(|e| e.kind())
        };
        let listener = bind("127.0.0.1:0".parse().unwrap(), true).unwrap().listen(8).unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
        let (client, (mut server, _)) = (client.unwrap(), server.unwrap());
        drop(listener);
        assert_eq!(bind(addr, false).err(), Some(ErrorKind::AddrInUse));
        assert!(bind(addr, true).is_ok());
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        drop(server);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(bind(addr, false).is_ok(), "who ended first remembers it, and that is the client");
    }

    async fn nobody_listens_nobody_connects() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(tokio::net::TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    async fn addresses_mirror_each_other() {
        let (client, server) = pair!();
        assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    }

    async fn bytes_arrive_in_order() {
        let (mut client, mut server) = pair!();
        let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&copy).await.unwrap();
            client.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == sent);
    }

    async fn a_dropped_peer_is_the_end() {
        let (client, mut server) = pair!();
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    }

    async fn shutdown_closes_one_direction() {
        let (mut client, mut server) = pair!();
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        server.write_all(b"still").await.unwrap();
        let mut five = [0; 5];
        client.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"still");
        assert_eq!(client.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    async fn ending_what_has_ended_on_both_sides_is_no_error() {
        let (mut client, mut server) = pair!();
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        server.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(2)).await;
        client.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
    }

    async fn unread_bytes_turn_a_close_into_a_reset() {
        let (mut client, server) = pair!();
        client.write_all(b"never read").await.unwrap();
        server.readable().await.unwrap();
        drop(server);
        let read = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::ConnectionReset);
    }

    async fn writing_to_a_closed_peer_breaks_in_the_end() {
        let (mut client, server) = pair!();
        drop(server);
        let broken = loop {
            if let Err(e) = client.write_all(b"x").await {
                break e;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert!(matches!(broken.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{broken}");
    }

    async fn peeking_takes_nothing() {
        let (mut client, mut server) = pair!();
        client.write_all(b"abc").await.unwrap();
        let mut three = [0; 3];
        assert_eq!(server.peek(&mut three[..1]).await.unwrap(), 1);
        server.read_exact(&mut three).await.unwrap();
        assert_eq!(&three, b"abc");
    }

    async fn trying_says_would_block() {
        let (client, server) = pair!();
        assert_eq!(server.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.writable().await.unwrap();
        assert_eq!(client.try_write(b"ab").unwrap(), 2);
        loop {
            server.readable().await.unwrap();
            match server.try_read(&mut [0; 8]) {
                Ok(n) => break assert_eq!(n, 2),
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    async fn writers_wait_for_readers() {
        let (client, server) = pair!();
        let mut sent = 0usize;
        let full = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                match client.try_write(&[0; 65536]) {
                    Ok(n) => sent += n,
                    Err(e) => break e.kind(),
                }
            }
        });
        assert_eq!(full.await, Ok(ErrorKind::WouldBlock));
        assert!(sent > 0);
        drop(server);
    }

    async fn split_halves_reunite() {
        let (client, server) = pair!();
        let (read, mut write) = client.into_split();
        let (other_read, other_write) = server.into_split();
        write.write_all(b"x").await.unwrap();
        assert!(read.reunite(other_write).is_err());
        drop((write, other_read));
    }

    async fn a_dropped_write_half_shuts_down() {
        let (client, mut server) = pair!();
        let (mut read, write) = client.into_split();
        drop(write);
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        server.write_all(b"y").await.unwrap();
        drop(server);
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"y");
    }

    async fn options_are_kept() {
        let (client, _server) = pair!();
        client.set_nodelay(true).unwrap();
        assert!(client.nodelay().unwrap());
        client.set_nodelay(false).unwrap();
        assert!(!client.nodelay().unwrap());
    }

    async fn datagrams_keep_their_bounds() {
        let a = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let b = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to: SocketAddr = b.local_addr().unwrap();
        assert_eq!(a.send_to(b"first", to).await.unwrap(), 5);
        assert_eq!(a.send_to(b"", to).await.unwrap(), 0);
        assert_eq!(a.send_to(b"third one", to).await.unwrap(), 9);
        let mut buf = [0; 5];
        assert_eq!(b.recv_from(&mut buf).await.unwrap(), (5, a.local_addr().unwrap()));
        assert_eq!(b.recv_from(&mut buf).await.unwrap().0, 0);
        assert_eq!(b.recv_from(&mut buf).await.unwrap().0, 5, "the rest is cut off");
        assert_eq!(&buf, b"third");
        assert_eq!(b.try_recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    async fn a_connected_datagram_socket_hears_its_peer_only() {
        let a = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let b = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(a.send(b"x").await.unwrap_err().raw_os_error(), Some(89));
        a.connect(b.local_addr().unwrap()).await.unwrap();
        assert_eq!(a.peer_addr().unwrap(), b.local_addr().unwrap());
        stranger.send_to(b"stranger", a.local_addr().unwrap()).await.unwrap();
        b.send_to(b"peer", a.local_addr().unwrap()).await.unwrap();
        let mut buf = [0; 16];
        let n = a.recv(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], b"peer");
    }

    async fn a_datagram_too_long_is_refused() {
        let a = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let long = a.send_to(&vec![0; 70_000], a.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(long.raw_os_error(), Some(90));
    }

    async fn a_datagram_nobody_waits_for_is_reported_to_a_connected_socket() {
        let a = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = gone.local_addr().unwrap();
        drop(gone);
        a.connect(to).await.unwrap();
        a.send(b"x").await.unwrap();
        assert_eq!(a.recv(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    async fn localhost_is_looked_up() {
        let addrs: Vec<SocketAddr> = tokio::net::lookup_host("127.0.0.1:80").await.unwrap().collect();
        assert_eq!(addrs, ["127.0.0.1:80".parse().unwrap()]);
        assert!(tokio::net::lookup_host("localhost:80").await.unwrap().any(|a| a.ip().is_loopback()));
        assert!(tokio::net::lookup_host("no port").await.is_err());
    }

    async fn sockets_are_configured_before_they_connect() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = socket.local_addr().unwrap();
        let listener = socket.listen(16).unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        let client = tokio::net::TcpSocket::new_v4().unwrap();
        let (client, server) = tokio::join!(client.connect(addr), listener.accept());
        assert_eq!(client.unwrap().local_addr().unwrap(), server.unwrap().1);
    }
}
