//! TCP as programs see it: handshake, backlog, buffers with back-pressure, half-close, FIN, RST and silence.
//!
//! A connection is one record for both its ends, so nothing is looked up by address once it stands. A segment is one
//! event. An acknowledgement is none: when a segment arrives, the time at which its sender will know is noted as a
//! [`Credit`], and only a sender that waits for room gets an event then. Acknowledgements meet blocks and holds like
//! any packet, but chance strikes segments only.
//!
//! Not modelled, because no program can tell or the difference is time alone: Nagle's algorithm and delayed
//! acknowledgements, congestion windows, fast retransmit and selective acknowledgement (a lost segment costs a
//! retransmission timeout), urgent data, simultaneous open, sequence numbers that wrap. Of TIME_WAIT there is what programs
//! meet: that nobody without SO_REUSEADDR binds to the port for a minute.

mod keep_alive;
mod setup;
mod stream;

pub use keep_alive::KeepAlive;
pub(super) use setup::Listener;
pub(super) use stream::Source;

use super::address::{Counter, Held, mapped};
use super::arena::Id;
use super::errno::Errno;
use super::{BindOptions, Buffers, Effect, Network, Token};
use sim_core::events::EventId;
use sim_core::{Death, DeviceCx, Instant, NodeId};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// The greatest segment: what Linux hands to its own loopback at once (GSO).
const SEGMENT_BYTES: usize = 64 << 10;
/// The least retransmission timeout, and the greatest (`TCP_RTO_MIN`, `TCP_RTO_MAX`).
const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(120);
/// `tcp_retries2`: after so many retransmissions without an answer the connection times out: 924.6 s at the least RTO.
const RETRIES: u8 = 15;

/// How long a side that ended first keeps its port after it was closed (`TCP_TIMEWAIT_LEN`, `tcp_fin_timeout`).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// One side of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamId {
    pub(crate) connection: Id,
    pub(crate) side: u8,
}

/// Options of a stream, or of a socket that will be one. Accepted streams begin with those of their listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOptions {
    /// TCP_NODELAY, kept for who asks: Nagle's algorithm is not modelled.
    pub nodelay: bool,
    /// IP_TTL, kept for who asks: no link counts hops.
    pub ttl: u32,
    /// SO_LINGER. Zero: closing sends RST. Closing never waits; who wants to waits for
    /// [`drained`](Network::drained) before.
    pub linger: Option<Duration>,
    /// SO_KEEPALIVE and its times.
    pub keep_alive: KeepAlive,
    /// TCP_USER_TIMEOUT: how long bytes may stay unacknowledged, and how long keep-alive probes without an answer.
    pub user_timeout: Option<Duration>,
    /// Bytes that a writer may be ahead of acknowledgements; `None` for the network's default.
    pub send_buffer_bytes: Option<u32>,
    /// Bytes that wait for a reader at most; `None` for the network's default. A window that was granted is not taken back.
    pub receive_buffer_bytes: Option<u32>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            nodelay: false,
            ttl: 64,
            linger: None,
            keep_alive: KeepAlive::default(),
            user_timeout: None,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// Where a stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamState {
    /// The handshake is under way.
    Connecting,
    /// Connected, also while one or both directions are shut down and the peer has not acknowledged it.
    Connected,
    /// Refused, reset or timed out, or both directions ended: TCP_CLOSE.
    Closed,
}

/// What one side of a stream can do without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// A read gives bytes, an end or an error.
    pub readable: bool,
    /// A write takes bytes or gives an error.
    pub writable: bool,
    /// No more bytes come after those that wait.
    pub read_ended: bool,
    /// This side can never write again.
    pub write_ended: bool,
    /// An error waits to be taken.
    pub error: bool,
}

/// The timers of a connection. The numbers are part of events' tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    Retransmission = 0,
    Credit = 1,
    Syn = 2,
    SynAck = 3,
    KeepAlive = 4,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The server's side before the SYN came.
    Absent,
    SynSent,
    SynReceived,
    Established,
    /// The kernel knows nothing of it any more: reset, timed out, or the machine lost power.
    Gone,
}

struct End {
    node: NodeId,
    addr: SocketAddr,
    state: State,
    /// A program, or the accept queue, holds it.
    held: bool,
    /// Reported once by the next call.
    error: Option<Errno>,
    /// The socket is IPv6 and shows IPv4 addresses as `::ffff:…`.
    mapped: bool,
    /// What it keeps from others.
    hold: Option<Held>,
    /// Until when, once it is closed.
    lingers: Option<Instant>,
    /// Its program named the port, which stays its own until it closes (Linux, `SOCK_BINDPORT_LOCK`).
    keeps_port: bool,
    /// It ended its direction before the peer did.
    ended_first: bool,
    /// Shut down for reading by its own program: what arrives can be read, and after that the end.
    read_shut: bool,
    options: TcpOptions,
    /// When the peer was last heard of, other than by acknowledgements.
    heard: Instant,
    /// Keep-alive probes without an answer.
    probes: u32,
    keep_alive: Option<EventId>,
}

impl End {
    fn new(node: NodeId, addr: SocketAddr, state: State) -> End {
        End {
            node,
            addr,
            state,
            held: false,
            error: None,
            mapped: false,
            hold: None,
            lingers: None,
            keeps_port: false,
            ended_first: false,
            read_shut: false,
            options: TcpOptions::default(),
            heard: Instant::ZERO,
            probes: 0,
            keep_alive: None,
        }
    }
}

/// What a sender learns at `at`: everything before `acked` arrived, and it may send up to `limit`.
#[derive(Clone, Copy, Debug)]
struct Credit {
    at: Instant,
    acked: u64,
    limit: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    No,
    Queued,
    Sent,
}

struct Chunk {
    bytes: Vec<u8>,
    at: usize,
}

impl Chunk {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

/// One direction of a connection. Positions count bytes from its start; a FIN takes the place of one byte.
struct Half {
    link: u32,
    packets: Counter,
    // The sender's.
    written: u64,
    sent: u64,
    acked: u64,
    limit: u64,
    backlog: VecDeque<Chunk>,
    fin: Fin,
    lost: Vec<Segment>,
    /// The peer's last acknowledgement was lost.
    unsure: bool,
    retries: u8,
    timer: Option<EventId>,
    credits: VecDeque<Credit>,
    credit_due: Option<EventId>,
    writer_waits: bool,
    /// Somebody wants to know when everything is acknowledged.
    drain_waits: bool,
    /// When the last acknowledgement came.
    heard: Instant,
    /// Since when nothing was acknowledged, while the timer runs.
    silent_since: Instant,
    send_buffer: usize,
    // The receiver's.
    window: u64,
    next: u64,
    ready: VecDeque<Chunk>,
    consumed: u64,
    advertised: u64,
    early: Vec<Segment>,
    fin_received: bool,
}

impl Half {
    fn new(link: u32, key: u64, window: u64, send_buffer: usize) -> Half {
        Half {
            link,
            packets: Counter::new(key),
            written: 0,
            sent: 0,
            acked: 0,
            limit: window,
            backlog: VecDeque::new(),
            fin: Fin::No,
            lost: Vec::new(),
            unsure: false,
            retries: 0,
            timer: None,
            credits: VecDeque::new(),
            credit_due: None,
            writer_waits: false,
            drain_waits: false,
            heard: Instant::ZERO,
            silent_since: Instant::ZERO,
            send_buffer,
            window,
            next: 0,
            ready: VecDeque::new(),
            consumed: 0,
            advertised: window,
            early: Vec::new(),
            fin_received: false,
        }
    }

    /// Learns what has come back by now.
    #[inline]
    fn drain(&mut self, now: Instant) {
        while let Some(credit) = self.credits.front().filter(|c| c.at <= now).copied() {
            self.credits.pop_front();
            self.heard = credit.at;
            self.learn(credit.acked, credit.limit);
        }
    }

    #[inline]
    fn learn(&mut self, acked: u64, limit: u64) {
        if acked > self.acked {
            self.acked = acked;
            self.retries = 0;
        }
        self.limit = self.limit.max(limit);
    }

    #[inline]
    fn room(&self) -> usize {
        self.send_buffer.saturating_sub((self.written - self.acked.min(self.written)) as usize)
    }

    /// Whether everything that was written, and the FIN if there is one, is acknowledged.
    fn is_drained(&self) -> bool {
        self.backlog.is_empty() && self.fin != Fin::Queued && self.acked >= self.sent
    }

    /// Whether somebody waits for acknowledgements.
    #[inline]
    fn awaits(&self) -> bool {
        self.writer_waits || self.drain_waits || !self.backlog.is_empty()
    }

    /// Bytes that arrived and were not read.
    #[inline]
    fn unread(&self) -> u64 {
        self.next - self.fin_received as u64 - self.consumed
    }

    /// Nothing is sent in this direction any more.
    fn silence(&mut self, buffers: &mut Buffers, cx: &mut DeviceCx<'_>) {
        for event in [self.timer.take(), self.credit_due.take()].into_iter().flatten() {
            cx.cancel(event);
        }
        self.credits.clear();
        self.lost.drain(..).for_each(|s| buffers.give(s.payload));
        self.backlog.drain(..).for_each(|c| buffers.give(c.bytes));
        self.unsure = false;
    }

    fn recycle(mut self, buffers: &mut Buffers, cx: &mut DeviceCx<'_>) {
        self.silence(buffers, cx);
        self.early.drain(..).for_each(|s| buffers.give(s.payload));
        self.ready.drain(..).for_each(|c| buffers.give(c.bytes));
    }
}

/// A connection: side 0 connected, side 1 listened; half `i` carries what side `i` sends.
pub(super) struct Connection {
    ends: [End; 2],
    halves: [Half; 2],
    /// Who will accept it.
    listener: Option<Id>,
    opened: Instant,
    tries: [u8; 2],
    /// Retries of the SYN, and of the SYN-ACK.
    timers: [Option<EventId>; 2],
    /// Nobody has the address: connecting ends with EHOSTUNREACH where ARP would find nobody, and with ETIMEDOUT beyond the gateway.
    nobody: Option<Errno>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Ack,
    Data,
    Fin,
    Rst,
    /// An empty segment that asks for an acknowledgement.
    Probe,
    /// The same of an idle connection, and its answer. Nobody misses them when they are lost.
    KeepAlive,
    Alive,
    /// An acknowledgement that a held link keeps back.
    Credit {
        acked: u64,
        limit: u64,
    },
}

pub(super) struct Segment {
    connection: Id,
    from: u8,
    kind: Kind,
    seq: u64,
    pub payload: Vec<u8>,
}

impl Segment {
    fn bare(connection: Id, from: u8, kind: Kind, seq: u64) -> Segment {
        Segment { connection, from, kind, seq, payload: Vec::new() }
    }

    /// Cuts off what arrives later. Nothing if it is too short to be cut.
    pub fn split(&mut self, detail: u64, buffers: &mut Buffers) -> Option<Segment> {
        if self.payload.len() < 2 {
            return None;
        }
        let at = 1 + detail as usize % (self.payload.len() - 1);
        let mut rest = buffers.take();
        rest.extend_from_slice(&self.payload[at..]);
        self.payload.truncate(at);
        Some(Segment { seq: self.seq + at as u64, payload: rest, ..*self })
    }

    pub fn describe(&self) -> String {
        format!("tcp {:?} at {}, {} bytes", self.kind, self.seq, self.payload.len())
    }
}

impl Network {
    /// The stream's record, if a program still holds this side.
    #[inline]
    fn held(&mut self, id: StreamId) -> Result<&mut Connection, Errno> {
        let connection = self.connections.get_mut(id.connection).ok_or(Errno::EBADF)?;
        if connection.ends[id.side as usize].held { Ok(connection) } else { Err(Errno::EBADF) }
    }

    /// Where a stream stands.
    pub fn stream_state(&mut self, id: StreamId, cx: &mut DeviceCx<'_>) -> Result<StreamState, Errno> {
        let connection = self.held(id)?;
        let over = connection.is_over(id.side, cx.now);
        Ok(match connection.ends[id.side as usize].state {
            State::Absent | State::SynSent | State::SynReceived => StreamState::Connecting,
            State::Established if over => StreamState::Closed,
            State::Established => StreamState::Connected,
            State::Gone => StreamState::Closed,
        })
    }

    /// The addresses of this side and of its peer, as the program sees them. Once it is closed, or before it is connected,
    /// Linux does not tell the peer's any more (ENOTCONN): see [`stream_state`](Self::stream_state).
    pub fn stream_addrs(&mut self, id: StreamId) -> Result<[SocketAddr; 2], Errno> {
        let connection = self.held(id)?;
        let here = &connection.ends[id.side as usize];
        let there = &connection.ends[1 - id.side as usize];
        let show = |addr| if here.mapped { mapped(addr) } else { addr };
        Ok([show(here.addr), show(there.addr)])
    }

    /// The options of this side.
    pub fn stream_options(&mut self, id: StreamId) -> Result<TcpOptions, Errno> {
        Ok(self.held(id)?.ends[id.side as usize].options)
    }

    /// Changes the options of this side.
    pub fn set_stream_options(
        &mut self,
        id: StreamId,
        change: impl FnOnce(&mut TcpOptions),
        cx: &mut DeviceCx<'_>,
    ) -> Result<(), Errno> {
        let before = self.stream_options(id)?;
        let mut after = before;
        change(&mut after);
        self.adopt_options(id, after);
        if (before.keep_alive, before.user_timeout) != (after.keep_alive, after.user_timeout) {
            self.restart_keep_alive(id.connection, id.side, cx);
        }
        Ok(())
    }

    /// Keeps options and sets what follows from them.
    fn adopt_options(&mut self, id: StreamId, options: TcpOptions) {
        let (send, receive) = (self.config.send_buffer_bytes, self.config.receive_buffer_bytes);
        let Some(connection) = self.connections.get_mut(id.connection) else { return };
        let side = id.side as usize;
        connection.ends[side].options = options;
        connection.halves[side].send_buffer = options.send_buffer_bytes.map_or(send, |b| b as usize);
        connection.halves[1 - side].window = options.receive_buffer_bytes.map_or(receive, |b| b as usize).max(4) as u64;
    }

    /// What broke the stream, once (SO_ERROR).
    pub fn take_stream_error(&mut self, id: StreamId) -> Result<Option<Errno>, Errno> {
        Ok(self.held(id)?.ends[id.side as usize].error.take())
    }

    /// Sends a segment from side `from`.
    #[inline]
    fn send_segment(&mut self, segment: Segment, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(segment.connection) else { return };
        let half = &mut connection.halves[segment.from as usize];
        let question = half.packets.next();
        let packet = super::Packet { link: half.link, sent: cx.now, body: super::Body::Segment(segment) };
        self.transmit(packet, question, cx);
    }

    /// A segment that was sent at `sent` is at its destination, and the machine there runs.
    pub(super) fn segment_arrives(&mut self, segment: Segment, sent: Instant, cx: &mut DeviceCx<'_>) {
        match segment.kind {
            Kind::Data | Kind::Fin | Kind::Probe => self.data_arrives(segment, sent, cx),
            Kind::Syn => self.syn_arrives(segment.connection, cx),
            Kind::SynAck => self.syn_ack_arrives(segment.connection, cx),
            Kind::Ack => self.handshake_done(segment.connection, cx),
            Kind::Rst => self.rst_arrives(segment.connection, 1 - segment.from, cx),
            Kind::KeepAlive | Kind::Alive => self.keep_alive_arrives(segment, cx),
            Kind::Credit { acked, limit } => self.learn_now(segment.connection, 1 - segment.from, acked, limit, cx),
        }
    }

    /// A segment will not arrive.
    pub(super) fn segment_lost(&mut self, segment: Segment, cx: &mut DeviceCx<'_>) {
        let (id, from) = (segment.connection, segment.from);
        let Some(connection) = self.connections.get_mut(id) else { return self.buffers.give(segment.payload) };
        match segment.kind {
            Kind::Data | Kind::Fin if connection.ends[from as usize].state == State::Established => {
                connection.halves[from as usize].lost.push(segment);
                self.arm(id, from, cx);
            }
            Kind::Data | Kind::Fin => self.buffers.give(segment.payload),
            Kind::Probe => {
                connection.halves[from as usize].unsure = true;
                self.arm(id, from, cx);
            }
            Kind::Credit { .. } => {
                connection.halves[1 - from as usize].unsure = true;
                self.arm(id, 1 - from, cx);
            }
            // Who opened the connection has a timer running; once that is done, who accepts it needs one.
            Kind::Ack | Kind::SynAck => self.arm_syn_ack(id, cx),
            // An RST is sent once; the next segment of the other side brings the next.
            Kind::Syn | Kind::Rst => {}
            Kind::KeepAlive | Kind::Alive => {}
        }
    }

    /// Sends an RST from side `from`. Needs no state there.
    fn send_rst(&mut self, id: Id, from: u8, cx: &mut DeviceCx<'_>) {
        if let Some(c) = self.connections.get(id) {
            cx.event(c.ends[from as usize].node, "tcp.rst", || c.describe(from, self));
            let seq = c.halves[from as usize].sent;
            self.send_segment(Segment::bare(id, from, Kind::Rst, seq), cx);
        }
    }

    fn rst_arrives(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let incoming_ended = connection.halves[1 - side as usize].fin_received;
        let over = connection.is_over(side, cx.now);
        let error = match connection.ends[side as usize].state {
            State::Gone | State::Absent => return,
            State::SynSent => Errno::ECONNREFUSED,
            State::SynReceived => {
                return self.drop_embryo(id, cx);
            }
            // Linux, tcp_reset(): EPIPE where the peer's FIN came before, ECONNRESET otherwise.
            State::Established if over => return,
            State::Established if incoming_ended => Errno::EPIPE,
            State::Established => Errno::ECONNRESET,
        };
        cx.event(connection.ends[side as usize].node, "tcp.reset", || format!("{error:?}"));
        self.break_off(id, side, error, cx);
    }

    /// The kernel gives this side up: what waits hears of it.
    fn break_off(&mut self, id: Id, side: u8, error: Errno, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[side as usize];
        end.state = State::Gone;
        end.error = Some(error);
        end.ended_first = false;
        if let Some(event) = end.keep_alive.take() {
            cx.cancel(event);
        }
        let keeps_port = end.keeps_port && end.held;
        connection.halves[side as usize].silence(&mut self.buffers, cx);
        if side == 0
            && let Some(event) = connection.timers[0].take()
        {
            cx.cancel(event);
        }
        self.effects.push(Effect::Readable { slot: id.index, side });
        self.effects.push(Effect::Writable { slot: id.index, side });
        if !keeps_port {
            self.give_port_back(id, side, cx.now);
        }
        self.free_if_done(id, cx);
    }

    /// The program closes its side: FIN, or RST where bytes are unread or linger is zero.
    pub fn close_stream(&mut self, id: StreamId, cx: &mut DeviceCx<'_>) {
        let StreamId { connection: id, side } = id;
        let Ok(connection) = self.held(StreamId { connection: id, side }) else { return };
        let end = &mut connection.ends[side as usize];
        end.held = false;
        if let Some(event) = end.keep_alive.take() {
            cx.cancel(event);
        }
        let state = end.state;
        let unread = connection.halves[1 - side as usize].unread() > 0;
        let over = connection.is_over(side, cx.now);
        let abort = unread || connection.ends[side as usize].options.linger == Some(Duration::ZERO);
        match state {
            // Nothing is left to be reset.
            State::Established if over => connection.ends[side as usize].state = State::Gone,
            State::Established if abort => self.abort(id, side, cx),
            State::Established => {
                cx.event(self.end_node(id, side), "tcp.close", || self.describe_connection(id, side));
                self.finish(id, side, cx);
            }
            State::SynSent => {
                connection.ends[side as usize].state = State::Gone;
                if let Some(event) = connection.timers[0].take() {
                    cx.cancel(event);
                }
            }
            State::Absent | State::SynReceived | State::Gone => {}
        }
        self.keep_port_a_while(id, side, cx.now);
        self.free_if_done(id, cx);
    }

    /// Both directions have ended: nothing but what its program named is a side's own any more.
    fn ports_are_over(&mut self, id: Id, now: Instant) {
        for side in [0, 1] {
            if self.connections.get(id).is_some_and(|c| !c.ends[side as usize].keeps_port) {
                self.keep_port_a_while(id, side, now);
            }
        }
    }

    /// A side is over: whether it is remembered depends on who ended first.
    fn keep_port_a_while(&mut self, id: Id, side: u8, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[side as usize];
        match end.hold {
            Some(_) if end.lingers.is_some() => {}
            Some(held) if end.ended_first => {
                let until = now + TIME_WAIT;
                end.lingers = Some(until);
                self.machines[end.node.0 as usize].tcp.linger(held, until, now);
            }
            Some(_) => self.give_port_back(id, side, now),
            None => {}
        }
    }

    /// A side is gone, and so is the memory of it.
    fn give_port_back(&mut self, id: Id, side: u8, now: Instant) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[side as usize];
        let Some(held) = end.hold.take() else { return };
        let ports = &mut self.machines[end.node.0 as usize].tcp;
        match end.lingers.take() {
            Some(until) => ports.linger_no_more(held, until, now),
            None => ports.release(held),
        }
    }

    /// Ends this side with an RST. Does not free it.
    fn abort(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        self.send_rst(id, side, cx);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.ends[side as usize].state = State::Gone;
        connection.halves[side as usize].silence(&mut self.buffers, cx);
        let peer_is_closed = !connection.ends[1 - side as usize].held;
        self.give_port_back(id, side, cx.now);
        // A record that nobody holds is freed before the RST arrives, and that ends TIME_WAIT, too.
        if peer_is_closed {
            self.give_port_back(id, 1 - side, cx.now);
        }
    }

    /// Frees a connection that no program can see any more. What is under way for it finds nothing, as it may.
    fn free_if_done(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.ends.iter().any(|e| e.held) {
            return;
        }
        let Some(connection) = self.connections.remove(id) else { return };
        let keep_alive = connection.ends.iter().map(|e| e.keep_alive);
        for event in connection.timers.into_iter().chain(keep_alive).flatten() {
            cx.cancel(event);
        }
        for end in &connection.ends {
            if let (Some(held), None) = (end.hold, end.lingers) {
                self.machines[end.node.0 as usize].tcp.release(held);
            }
        }
        for half in connection.halves {
            half.recycle(&mut self.buffers, cx);
        }
    }

    /// What becomes of a connection when a node's programs have ended.
    pub(super) fn connection_of_dead(&mut self, id: Id, node: NodeId, how: Death, cx: &mut DeviceCx<'_>) {
        for side in [0, 1] {
            let Some(connection) = self.connections.get_mut(id) else { return };
            let end = &mut connection.ends[side as usize];
            if end.node != node {
                continue;
            }
            match how {
                Death::PowerOff => {
                    end.state = if end.state == State::Absent { State::Absent } else { State::Gone };
                    end.held = false;
                    if let Some(event) = end.keep_alive.take() {
                        cx.cancel(event);
                    }
                    connection.halves[side as usize].silence(&mut self.buffers, cx);
                    if let Some(event) = connection.timers[side as usize].take() {
                        cx.cancel(event);
                    }
                    self.give_port_back(id, side, cx.now);
                    self.free_if_done(id, cx);
                }
                Death::Exit | Death::Kill => self.close_stream(StreamId { connection: id, side }, cx),
            }
        }
    }

    fn end_node(&self, id: Id, side: u8) -> NodeId {
        self.connections.get(id).map_or(NodeId::OUTSIDE, |c| c.ends[side as usize].node)
    }

    fn describe_connection(&self, id: Id, side: u8) -> String {
        self.connections.get(id).map_or_else(String::new, |c| c.describe(side, self))
    }

    fn set_timer(&mut self, timer: Timer, id: Id, side: u8, after: Duration, cx: &mut DeviceCx<'_>) -> EventId {
        cx.schedule(cx.now + after, Token::Timer(timer, id, side).pack())
    }
}

impl Connection {
    /// Whether both directions have ended as this side knows: what it sent is acknowledged with its FIN, and the peer's
    /// FIN is there. Linux: TIME_WAIT or CLOSE.
    fn is_over(&mut self, side: u8, now: Instant) -> bool {
        let (own, incoming) = (side as usize, 1 - side as usize);
        if self.halves[own].fin != Fin::Sent || !self.halves[incoming].fin_received {
            return false;
        }
        self.halves[own].drain(now);
        self.halves[own].is_drained()
    }

    fn describe(&self, from: u8, net: &Network) -> String {
        let (a, b) = (&self.ends[from as usize], &self.ends[1 - from as usize]);
        format!("{}({})->{}({})", net.name(a.node), a.addr, net.name(b.node), b.addr)
    }
}
