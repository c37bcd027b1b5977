//! How connections come about: bind, listen, connect, accept, and the handshake between them.

use super::*;
use crate::model::Attempt;
use crate::model::address::{Route, canonical};
use sim_core::choices::{Law, Stream};
use sim_core::hash;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `tcp_syn_retries`: SYNs at 0, 1, 3, 7, 15, 31 and 63 s, ETIMEDOUT at 127 s.
const SYN_RETRIES: u8 = 6;
/// `tcp_synack_retries`.
const SYN_ACK_RETRIES: u8 = 5;
/// How long ARP looks for a machine that is not there (three tries, a second each).
const ARP_GIVES_UP: Duration = Duration::from_secs(3);

/// A bound socket that listens, or may yet listen or connect.
pub(in crate::model) struct Listener {
    pub node: NodeId,
    addr: SocketAddr,
    /// `None`: bound only.
    backlog: Option<u32>,
    /// Handshakes under way.
    embryos: Vec<Id>,
    /// Connections to be accepted.
    queue: VecDeque<Id>,
    options: TcpOptions,
}

impl Network {
    /// Binds a TCP socket of `node`; port 0 for the next ephemeral one. `how` says with whom it may share the address:
    /// with SO_REUSEADDR on both sides, with any that does not listen; with SO_REUSEPORT on both, with any.
    pub fn bind_tcp(
        &mut self,
        node: NodeId,
        addr: SocketAddr,
        how: BindOptions,
        cx: &mut DeviceCx<'_>,
    ) -> Result<Id, Errno> {
        self.may_bind(node, addr.ip(), how)?;
        let fresh = Listener {
            node,
            addr,
            backlog: None,
            embryos: Vec::new(),
            queue: VecDeque::new(),
            options: TcpOptions::default(),
        };
        let id = self.listeners.insert(fresh);
        match self.machines[node.0 as usize].tcp.bind(addr, how, id, cx.now) {
            Ok(addr) => {
                self.listeners.get_mut(id).expect("just inserted").addr = addr;
                cx.event(node, "tcp.bind", || addr.to_string());
                Ok(id)
            }
            Err(errno) => {
                self.listeners.remove(id);
                Err(errno)
            }
        }
    }

    /// Lets a bound socket take connections; `backlog` + 1 of them may wait to be accepted, as on Linux. A second time it
    /// changes the backlog.
    ///
    /// # Errors
    /// EADDRINUSE if another socket of the same address listens already and not both have SO_REUSEPORT.
    pub fn listen(&mut self, id: Id, backlog: u32, cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let listener = self.listeners.get_mut(id).ok_or(Errno::EBADF)?;
        if listener.backlog.is_none() {
            self.machines[listener.node.0 as usize].tcp.listen(id, listener.addr.port(), cx.now)?;
        }
        listener.backlog = Some(backlog);
        Ok(())
    }

    /// Where a socket is bound.
    pub fn listener_addr(&self, id: Id) -> Result<SocketAddr, Errno> {
        self.listeners.get(id).map(|l| l.addr).ok_or(Errno::EBADF)
    }

    /// The options that streams of a bound socket or a listener begin with.
    pub fn listener_options(&mut self, id: Id) -> Result<&mut TcpOptions, Errno> {
        self.listeners.get_mut(id).map(|l| &mut l.options).ok_or(Errno::EBADF)
    }

    /// The next connection of the queue, and its peer's address.
    pub fn accept(&mut self, id: Id, cx: &mut DeviceCx<'_>) -> Attempt<(StreamId, SocketAddr)> {
        let listener = self.listeners.get_mut(id).ok_or(Errno::EBADF)?;
        let Some(connection) = listener.queue.pop_front() else { return Ok(None) };
        let stream = StreamId { connection, side: 1 };
        let Some(record) = self.connections.get_mut(connection) else { return Err(Errno::EBADF) };
        record.listener = None;
        let node = record.ends[1].node;
        cx.event(node, "tcp.accept", || self.describe_connection(connection, 1));
        let [_, peer] = self.stream_addrs(stream)?;
        Ok(Some((stream, peer)))
    }

    /// Whether a connection waits in the queue.
    pub fn acceptable(&self, id: Id) -> Result<bool, Errno> {
        self.listeners.get(id).map(|l| !l.queue.is_empty()).ok_or(Errno::EBADF)
    }

    /// Stops listening. Connections that nobody accepted are reset.
    pub fn close_listener(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        if self.stop_listening(id, cx).is_ok() {
            self.forget_listener(id);
        }
    }

    /// Stops listening and stays bound (`shutdown` of a listener). Connections that nobody accepted are reset.
    pub fn stop_listening(&mut self, id: Id, cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let listener = self.listeners.get_mut(id).ok_or(Errno::EBADF)?;
        listener.backlog = None;
        let (queue, embryos) = (std::mem::take(&mut listener.queue), std::mem::take(&mut listener.embryos));
        self.machines[listener.node.0 as usize].tcp.listen_no_more(id);
        for connection in queue.into_iter().chain(embryos) {
            self.abort(connection, 1, cx);
            self.let_go(connection, cx);
        }
        self.effects.push(Effect::Acceptable(id.index));
        Ok(())
    }

    /// The same without a word to anybody: the machine lost power.
    pub(in crate::model) fn forget_listener(&mut self, id: Id) {
        if let Some(listener) = self.listeners.remove(id) {
            self.machines[listener.node.0 as usize].tcp.unbind(id, listener.addr.port());
        }
    }

    fn let_go(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.ends[1].held = false;
            connection.ends[1].state = State::Gone;
            if let Some(event) = connection.timers[1].take() {
                cx.cancel(event);
            }
            self.give_port_back(id, 1, cx.now);
            self.free_if_done(id, cx);
        }
    }

    /// Starts to connect a socket of `node`, bound before or not, to `to`. [`connected`](Self::connected) says how it
    /// goes on. A bound socket is used up unless this fails; its options are the stream's, else they are `options`.
    pub fn connect(
        &mut self,
        node: NodeId,
        bound: Option<Id>,
        to: SocketAddr,
        options: TcpOptions,
        cx: &mut DeviceCx<'_>,
    ) -> Result<StreamId, Errno> {
        let wanted = to;
        let to = canonical(to);
        let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let (local, options) = match bound {
            Some(id) => (self.listener_addr(id)?, *self.listener_options(id)?),
            None => (SocketAddr::new(any, 0), options),
        };
        // The machine itself, at the address that it is called from (Linux, ip_route_output_key()).
        let here = wanted.is_ipv4() && wanted.ip().is_unspecified() && !local.ip().is_unspecified();
        let to = if here { SocketAddr::new(local.ip(), to.port()) } else { to };
        if bound.is_some() && local.is_ipv4() != wanted.is_ipv4() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let local_ip = if local.ip().is_unspecified() { any } else { local.ip() };
        if to.port() == 0 {
            return Err(Errno::ECONNREFUSED);
        }
        let (server, nobody) = match self.route(node, to.ip()) {
            Route::To(server) => (server, None),
            Route::Nobody => (node, Some(Errno::EHOSTUNREACH)),
            Route::Beyond => (node, Some(Errno::ETIMEDOUT)),
            Route::Nowhere => return Err(Errno::ENETUNREACH),
        };
        let machine = &mut self.machines[node.0 as usize];
        let source = machine.source(local_ip, to.ip())?;
        let port = match local.port() {
            0 => machine.tcp.ephemeral()?,
            port => port,
        };
        let (how, keeps_port) = match bound {
            Some(id) => machine.tcp.how(id, port),
            None => Default::default(),
        };
        let hold = (port, source.to_canonical(), how);
        if let Some(id) = bound {
            self.forget_listener(id);
        }
        let server_key =
            if nobody.is_some() { hash::text(&to.ip().to_string()) } else { self.machines[server.0 as usize].key };
        let machine = &mut self.machines[node.0 as usize];
        machine.tcp.hold(hold);
        let ordinal = machine.dialed.entry((server_key, to.port())).or_default();
        let key = hash::key(&[hash::text("tcp"), machine.key, server_key, to.port() as u64, *ordinal as u64]);
        let nth = *ordinal;
        *ordinal += 1;
        let keys = [hash::key(&[key, 0]), hash::key(&[key, 1])];
        for (i, (a, b)) in [(node, server), (server, node)].into_iter().enumerate() {
            let what = ["connection", "answers of connection"][i];
            cx.choices.name_key(keys[i], || {
                format!("{what} {nth} to port {}, {}->{}", to.port(), self.name(a), self.name(b))
            });
        }
        let links = [self.link(node, server, cx), self.link(server, node, cx)];
        let (send, window) = (self.config.send_buffer_bytes, self.config.receive_buffer_bytes.max(4) as u64);
        let mut ends =
            [End::new(node, SocketAddr::new(source, port), State::SynSent), End::new(server, to, State::Absent)];
        ends[0].held = true;
        (ends[0].hold, ends[0].keeps_port) = (Some(hold), keeps_port);
        ends[0].mapped = wanted.is_ipv6() && to.is_ipv4();
        let id = self.connections.insert(Connection {
            ends,
            halves: [0, 1].map(|i| Half::new(links[i], keys[i], window, send)),
            listener: None,
            opened: cx.now,
            tries: [0; 2],
            timers: [None; 2],
            nobody,
        });
        self.begin_with(StreamId { connection: id, side: 0 }, options);
        cx.event(node, "tcp.connect", || self.describe_connection(id, 0));
        let after = if nobody == Some(Errno::EHOSTUNREACH) { ARP_GIVES_UP } else { Duration::from_secs(1) };
        let timer = self.set_timer(Timer::Syn, id, 0, after, cx);
        self.connections.get_mut(id).expect("just inserted").timers[0] = Some(timer);
        if nobody.is_none() {
            self.send_segment(Segment::bare(id, 0, Kind::Syn, 0), cx);
        }
        Ok(StreamId { connection: id, side: 0 })
    }

    /// Gives a stream that has sent nothing yet its options, and its peer the window that follows from them.
    fn begin_with(&mut self, id: StreamId, options: TcpOptions) {
        self.adopt_options(id, options);
        if let Some(connection) = self.connections.get_mut(id.connection) {
            let incoming = &mut connection.halves[1 - id.side as usize];
            (incoming.limit, incoming.advertised) = (incoming.window, incoming.window);
        }
    }

    /// Whether connecting is done.
    pub fn connected(&mut self, id: StreamId) -> Attempt<()> {
        let end = &mut self.held(id)?.ends[id.side as usize];
        match end.state {
            State::Absent | State::SynSent | State::SynReceived => Ok(None),
            State::Established => Ok(Some(())),
            State::Gone => Err(end.error.take().unwrap_or(Errno::ENOTCONN)),
        }
    }

    pub(in crate::model) fn syn_due(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.timers[0] = None;
        if connection.ends[0].state != State::SynSent {
            return;
        }
        connection.tries[0] += 1;
        let tries = connection.tries[0];
        let nobody = connection.nobody;
        if nobody == Some(Errno::EHOSTUNREACH) || tries > SYN_RETRIES {
            let error = nobody.unwrap_or(Errno::ETIMEDOUT);
            cx.event(connection.ends[0].node, "tcp.unanswered", || format!("{error:?}"));
            return self.break_off(id, 0, error, cx);
        }
        let timer = self.set_timer(Timer::Syn, id, 0, Duration::from_secs(1 << tries), cx);
        self.connections.get_mut(id).expect("found above").timers[0] = Some(timer);
        if nobody.is_none() {
            self.send_segment(Segment::bare(id, 0, Kind::Syn, 0), cx);
        }
    }

    pub(super) fn syn_arrives(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (node, addr) = (connection.ends[1].node, connection.ends[1].addr);
        match connection.ends[1].state {
            State::Absent => {}
            State::SynReceived | State::Established => {
                return self.send_segment(Segment::bare(id, 1, Kind::SynAck, 0), cx);
            }
            State::SynSent | State::Gone => return self.send_rst(id, 1, cx),
        }
        let (key, tries) = (connection.halves[0].packets.key, connection.tries[0] as u32);
        let machines = &self.machines;
        // Linux spreads by a hash of the addresses with a secret (inet_ehashfn()): any of them may get any connection.
        let pick = |count| {
            let question = hash::key(&[hash::text("reuseport"), key]);
            let client = &machines[connection.ends[0].node.0 as usize].name;
            cx.choices.name_key(question, || format!("a connection {client}->{addr}"));
            hash::key(&[key]) % count + cx.ask(Stream::NET, question, tries, Law::Below(count), "SO_REUSEPORT listener")
        };
        let found = machines[node.0 as usize].tcp.find(addr.ip(), addr.port(), pick, |b| b.listens.then_some(0));
        let listening = found.and_then(|l| Some((l, self.listeners.get(l)?.backlog?)));
        let Some((listener_id, backlog)) = listening else { return self.send_rst(id, 1, cx) };
        let listener = self.listeners.get_mut(listener_id).expect("found above");
        if listener.queue.len() + listener.embryos.len() > backlog as usize {
            cx.event(node, "tcp.backlog-full", || format!("a SYN to {addr} is dropped"));
            return;
        }
        listener.embryos.push(id);
        connection.listener = Some(listener_id);
        connection.ends[1].mapped = listener.addr.is_ipv6() && addr.is_ipv4();
        connection.ends[1].state = State::SynReceived;
        connection.ends[1].held = true;
        let options = listener.options;
        self.begin_with(StreamId { connection: id, side: 1 }, options);
        self.send_segment(Segment::bare(id, 1, Kind::SynAck, 0), cx);
    }

    pub(super) fn syn_ack_arrives(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.ends[0].state {
            State::SynSent => {
                connection.ends[0].state = State::Established;
                if let Some(event) = connection.timers[0].take() {
                    cx.cancel(event);
                }
                connection.ends[0].heard = cx.now;
                self.effects.push(Effect::Writable { slot: id.index, side: 0 });
                self.restart_keep_alive(id, 0, cx);
            }
            State::Established => {}
            State::Absent | State::SynReceived | State::Gone => return self.send_rst(id, 0, cx),
        }
        if self.connections.get(id).is_some_and(|c| c.ends[1].state == State::SynReceived) {
            self.send_segment(Segment::bare(id, 0, Kind::Ack, 0), cx);
        }
    }

    /// The third step of the handshake, or data that stands for it: the connection may be accepted.
    pub(super) fn handshake_done(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.ends[1].state {
            State::SynReceived => {}
            State::Gone => return self.send_rst(id, 1, cx),
            State::Absent | State::SynSent | State::Established => return,
        }
        connection.ends[1].state = State::Established;
        connection.ends[1].heard = cx.now;
        if let Some(event) = connection.timers[1].take() {
            cx.cancel(event);
        }
        self.restart_keep_alive(id, 1, cx);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let took = cx.now - connection.opened;
        let Some(listener_id) = connection.listener else { return };
        let Some(listener) = self.listeners.get_mut(listener_id) else { return };
        listener.embryos.retain(|e| *e != id);
        listener.queue.push_back(id);
        let end = &mut connection.ends[1];
        let ports = &mut self.machines[end.node.0 as usize].tcp;
        let (how, _) = ports.how(listener_id, end.addr.port());
        // Linux, __inet_inherit_port(): it outlives the listener.
        let hold = (end.addr.port(), end.addr.ip().to_canonical(), how);
        ports.hold(hold);
        end.hold = Some(hold);
        self.effects.push(Effect::Acceptable(listener_id.index));
        cx.metrics.latency(|| format!("tcp connect {}", self.describe_nodes(id)), took);
    }

    fn describe_nodes(&self, id: Id) -> String {
        format!("{}->{}", self.name(self.end_node(id, 0)), self.name(self.end_node(id, 1)))
    }

    pub(super) fn arm_syn_ack(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get(id) else { return };
        let needed = connection.ends[1].state == State::SynReceived && connection.ends[0].state != State::SynSent;
        if needed && connection.timers[1].is_none() {
            let after = Duration::from_secs(1 << connection.tries[1]);
            let timer = self.set_timer(Timer::SynAck, id, 1, after, cx);
            self.connections.get_mut(id).expect("found above").timers[1] = Some(timer);
        }
    }

    pub(in crate::model) fn syn_ack_due(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.timers[1] = None;
        if connection.ends[1].state != State::SynReceived {
            return;
        }
        connection.tries[1] += 1;
        if connection.tries[1] > SYN_ACK_RETRIES {
            return self.drop_embryo(id, cx);
        }
        self.send_segment(Segment::bare(id, 1, Kind::SynAck, 0), cx);
        // Should this one be lost, too, the loss sets the timer again.
    }

    /// A handshake that will not be completed.
    pub(super) fn drop_embryo(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let listener = self.connections.get_mut(id).and_then(|c| c.listener.take());
        if let Some(listener) = listener.and_then(|l| self.listeners.get_mut(l)) {
            listener.embryos.retain(|e| *e != id);
        }
        self.let_go(id, cx);
    }
}
