//! Bytes on an established connection: write, read, windows, retransmission, the end.

use super::*;
use crate::model::Attempt;
use std::io::IoSlice;

impl Network {
    /// Takes as many bytes as there is room for; `Ok(None)` if there is none.
    pub fn write(&mut self, id: StreamId, bytes: &[IoSlice<'_>], cx: &mut DeviceCx<'_>) -> Attempt<usize> {
        let side = id.side as usize;
        let connection = self.held(id)?;
        connection.may_write(side)?;
        if connection.ends[side].state != State::Established {
            return Ok(None);
        }
        let half = &mut connection.halves[side];
        half.drain(cx.now);
        let len: usize = bytes.iter().map(|b| b.len()).sum();
        let n = len.min(half.room());
        if n == 0 && len > 0 {
            half.writer_waits = true;
            self.await_credit(id.connection, id.side, cx);
            return Ok(None);
        }
        let mut source = Source::new(bytes);
        let mut left = n;
        while left > 0 {
            let take = left.min(SEGMENT_BYTES);
            let mut chunk = self.buffers.take();
            source.move_to(&mut chunk, take);
            let half = &mut self.held(id)?.halves[side];
            half.written += take as u64;
            left -= take;
            if half.backlog.is_empty() && half.sent + take as u64 <= half.limit {
                self.send_data(id.connection, id.side, chunk, cx);
            } else {
                half.backlog.push_back(Chunk { bytes: chunk, at: 0 });
            }
        }
        self.pump(id.connection, id.side, cx);
        Ok(Some(n))
    }

    /// Whether a write would not have to wait. Says false and remembers that somebody waits, or true.
    pub fn writable(&mut self, id: StreamId, cx: &mut DeviceCx<'_>) -> Result<bool, Errno> {
        let connection = self.held(id)?;
        let side = id.side as usize;
        match connection.ends[side].state {
            State::Established => {}
            State::Gone => return Ok(true),
            State::Absent | State::SynSent | State::SynReceived => return Ok(false),
        }
        let half = &mut connection.halves[side];
        half.drain(cx.now);
        let yes = half.room() > 0 || half.fin != Fin::No;
        if !yes {
            half.writer_waits = true;
            self.await_credit(id.connection, id.side, cx);
        }
        Ok(yes)
    }

    /// Gives up to `room` bytes of what arrived to `put`: 0 at the end of the stream; `Ok(None)` if nothing has arrived.
    pub fn read(&mut self, id: StreamId, room: usize, put: impl FnMut(&[u8]), cx: &mut DeviceCx<'_>) -> Attempt<usize> {
        let connection = self.held(id)?;
        let Some(n) = connection.copy_out(id.side as usize, room, put)? else { return Ok(None) };
        let Some(connection) = self.connections.get_mut(id.connection) else { return Err(Errno::EBADF) };
        let half = &mut connection.halves[1 - id.side as usize];
        half.consumed += n as u64;
        let mut left = n;
        while left > 0 {
            let Some(chunk) = half.ready.front_mut() else { break };
            let rest = chunk.rest().len();
            if rest > left {
                chunk.at += left;
                break;
            }
            left -= rest;
            let chunk = half.ready.pop_front().expect("seen above");
            self.buffers.give(chunk.bytes);
        }
        // A window update is worth a packet when it opens a good part of the window (RFC 9293 section 3.8.6.2.2).
        if half.consumed + half.window >= half.advertised + half.window / 4 && !half.fin_received {
            self.credit(id.connection, 1 - id.side, cx);
        }
        Ok(Some(n))
    }

    /// The same without taking it, from `offset` bytes on.
    pub fn peek(&mut self, id: StreamId, offset: usize, room: usize, mut put: impl FnMut(&[u8])) -> Attempt<usize> {
        let mut skip = offset;
        let seen = self.held(id)?.copy_out(id.side as usize, room.saturating_add(offset), |bytes| {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            put(&bytes[skipped..]);
        })?;
        // Bytes that the offset covers are none to give, and no end either.
        Ok(seen.filter(|n| *n == 0 || *n > offset || room == 0).map(|n| n.saturating_sub(offset)))
    }

    /// Bytes that arrived and were not read (FIONREAD).
    pub fn unread(&mut self, id: StreamId) -> Result<usize, Errno> {
        Ok(self.held(id)?.halves[1 - id.side as usize].unread() as usize)
    }

    /// Bytes that were written and are not acknowledged, a FIN counted as one (SIOCOUTQ).
    pub fn unacknowledged(&mut self, id: StreamId, cx: &mut DeviceCx<'_>) -> Result<usize, Errno> {
        let half = &mut self.held(id)?.halves[id.side as usize];
        half.drain(cx.now);
        Ok((half.written + (half.fin != Fin::No) as u64).saturating_sub(half.acked) as usize)
    }

    /// Whether everything written is acknowledged, the FIN too if there is one, or never will be: what a close with
    /// SO_LINGER waits for. Says false and remembers that somebody waits, or true.
    pub fn drained(&mut self, id: StreamId, cx: &mut DeviceCx<'_>) -> Result<bool, Errno> {
        let connection = self.held(id)?;
        let half = &mut connection.halves[id.side as usize];
        half.drain(cx.now);
        if connection.ends[id.side as usize].state != State::Established || half.is_drained() {
            return Ok(true);
        }
        half.drain_waits = true;
        self.await_credit(id.connection, id.side, cx);
        Ok(false)
    }

    /// Whether a read would not have to wait.
    pub fn readable(&mut self, id: StreamId) -> Result<bool, Errno> {
        let connection = self.held(id)?;
        let incoming = &connection.halves[1 - id.side as usize];
        let end = &connection.ends[id.side as usize];
        Ok(incoming.unread() > 0 || incoming.fin_received || end.read_shut || end.state == State::Gone)
    }

    /// Whether the peer has ended its direction, or the connection is gone: no more bytes come after those that wait.
    pub fn read_ended(&mut self, id: StreamId) -> Result<bool, Errno> {
        let connection = self.held(id)?;
        let end = &connection.ends[id.side as usize];
        Ok(connection.halves[1 - id.side as usize].fin_received || end.read_shut || end.state == State::Gone)
    }

    /// What this side can do without waiting, all at once.
    pub fn standing(&mut self, id: StreamId, cx: &mut DeviceCx<'_>) -> Result<Standing, Errno> {
        let writable = self.writable(id, cx)?;
        let connection = self.held(id)?;
        let side = id.side as usize;
        let (end, incoming) = (&connection.ends[side], &connection.halves[1 - side]);
        let gone = end.state == State::Gone;
        let read_ended = incoming.fin_received || end.read_shut || gone;
        Ok(Standing {
            readable: read_ended || incoming.unread() > 0,
            writable,
            read_ended,
            write_ended: connection.halves[side].fin != Fin::No || gone,
            error: end.error.is_some(),
        })
    }

    /// Ends this side's direction, a FIN following what was written, or lets reads end, or both. A second time it does
    /// nothing. A handshake under way is given up.
    ///
    /// # Errors
    /// ENOTCONN once the connection is closed.
    pub fn shutdown(&mut self, id: StreamId, read: bool, write: bool, cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let StreamId { connection, side } = id;
        match self.stream_state(id, cx)? {
            StreamState::Connected => {}
            StreamState::Connecting => {
                // Linux, inet_shutdown() and tcp_disconnect().
                self.break_off(connection, side, Errno::ECONNRESET, cx);
                return Ok(());
            }
            StreamState::Closed => return Err(Errno::ENOTCONN),
        }
        if read {
            self.held(id)?.ends[side as usize].read_shut = true;
            self.effects.push(Effect::Readable { slot: connection.index, side });
        }
        if write {
            self.finish(connection, side, cx);
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let half = &mut connection.halves[side as usize];
        if half.fin == Fin::No {
            half.fin = Fin::Queued;
            connection.ends[side as usize].ended_first = !connection.halves[1 - side as usize].fin_received;
            self.effects.push(Effect::Writable { slot: id.index, side });
            self.pump(id, side, cx);
        }
    }

    #[inline]
    fn send_data(&mut self, id: Id, side: u8, payload: Vec<u8>, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let half = &mut connection.halves[side as usize];
        let seq = half.sent;
        half.sent += payload.len() as u64;
        debug_assert!(half.sent <= half.limit, "a sender keeps to the window");
        self.send_segment(Segment { connection: id, from: side, kind: Kind::Data, seq, payload }, cx);
    }

    /// Sends what the window allows of what waits, and the FIN behind it.
    #[inline]
    fn pump(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        loop {
            let Some(connection) = self.connections.get_mut(id) else { return };
            if connection.ends[side as usize].state != State::Established {
                return;
            }
            let half = &mut connection.halves[side as usize];
            let Some(chunk) = half.backlog.front_mut() else {
                if half.fin == Fin::Queued {
                    half.fin = Fin::Sent;
                    let seq = half.sent;
                    half.sent += 1;
                    self.send_segment(Segment::bare(id, side, Kind::Fin, seq), cx);
                }
                return;
            };
            let allowed = half.limit.saturating_sub(half.sent) as usize;
            if allowed == 0 {
                return self.await_credit(id, side, cx);
            }
            let payload = if chunk.at == 0 && chunk.bytes.len() <= allowed {
                half.backlog.pop_front().map(|c| c.bytes).unwrap_or_default()
            } else {
                let n = chunk.rest().len().min(allowed);
                let mut part = self.buffers.take();
                part.extend_from_slice(&chunk.rest()[..n]);
                chunk.at += n;
                if chunk.rest().is_empty() {
                    let done = half.backlog.pop_front().map(|c| c.bytes).unwrap_or_default();
                    self.buffers.give(done);
                }
                part
            };
            self.send_data(id, side, payload, cx);
        }
    }

    /// Data, a FIN or a probe of side `segment.from` is there.
    pub(super) fn data_arrives(&mut self, segment: Segment, sent: Instant, cx: &mut DeviceCx<'_>) {
        let (id, from) = (segment.connection, segment.from);
        let to = 1 - from;
        let Some(connection) = self.connections.get_mut(id) else { return self.buffers.give(segment.payload) };
        match connection.ends[to as usize].state {
            State::Established => {}
            State::SynReceived => {
                self.handshake_done(id, cx);
                return self.data_arrives(segment, sent, cx);
            }
            State::Absent | State::SynSent | State::Gone => {
                self.buffers.give(segment.payload);
                return self.send_rst(id, to, cx);
            }
        }
        // Nobody will ever read it (RFC 9293 section 3.6.1; Linux, tcp_rcv_state_process()).
        if segment.kind == Kind::Data && !connection.ends[to as usize].held {
            self.buffers.give(segment.payload);
            return self.abort(id, to, cx);
        }
        // RFC 1122 section 4.2.2.13; Linux, tcp_rcv_state_process(): so too if it was shut down both ways.
        if segment.kind == Kind::Data
            && connection.ends[to as usize].read_shut
            && connection.halves[to as usize].fin != Fin::No
        {
            self.buffers.give(segment.payload);
            self.send_rst(id, to, cx);
            return self.break_off(id, to, Errno::ECONNRESET, cx);
        }
        let half = &mut connection.halves[from as usize];
        if segment.kind == Kind::Probe || segment.seq < half.next || half.fin_received {
            self.buffers.give(segment.payload);
            return self.credit(id, from, cx);
        }
        if segment.seq > half.next {
            let place = half.early.partition_point(|s| s.seq < segment.seq);
            half.early.insert(place, segment);
            return;
        }
        connection.ends[to as usize].heard = cx.now;
        half.take_in(segment);
        while half.early.first().is_some_and(|s| s.seq == half.next) {
            let segment = half.early.remove(0);
            half.take_in(segment);
        }
        let over = connection.halves.iter().all(|half| half.fin_received);
        let took = cx.now - sent;
        cx.metrics.latency(|| self.latency_name(id, from), took);
        self.effects.push(Effect::Readable { slot: id.index, side: to });
        self.credit(id, from, cx);
        if over {
            self.ports_are_over(id, cx.now);
        }
    }

    fn latency_name(&self, id: Id, from: u8) -> String {
        format!("tcp {}->{}", self.name(self.end_node(id, from)), self.name(self.end_node(id, 1 - from)))
    }

    /// The receiver of what side `sender` sends says how far it is.
    #[inline]
    fn credit(&mut self, id: Id, sender: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let back = connection.halves[1 - sender as usize].link;
        let half = &mut connection.halves[sender as usize];
        let (acked, limit) = (half.next, half.consumed + half.window);
        half.advertised = limit;
        if connection.ends[sender as usize].state != State::Established {
            return;
        }
        let link = &self.links[back as usize];
        if link.blocks > 0 {
            half.unsure = true;
            let (from, to) = (link.from, link.to);
            cx.fired(from, "net.partition", || format!("{}->{} tcp ack", self.name(from), self.name(to)));
            return self.arm(id, sender, cx);
        }
        if link.held {
            let ack = Segment::bare(id, 1 - sender, Kind::Credit { acked, limit }, acked);
            let packet = crate::model::Packet { link: back, sent: cx.now, body: crate::model::Body::Segment(ack) };
            return self.under_way(packet, cx.now + Duration::from_nanos(self.links[back as usize].latency_ns), cx);
        }
        half.unsure = false;
        let at = cx.now + Duration::from_nanos(link.latency_ns);
        match half.credits.back_mut() {
            // Later news of the same instant replaces earlier.
            Some(last) if last.at >= at => *last = Credit { at: last.at, acked, limit },
            _ => half.credits.push_back(Credit { at, acked, limit }),
        }
        if half.awaits() {
            self.await_credit(id, sender, cx);
        }
    }

    /// Asks for an event when the next news comes, if any is under way.
    fn await_credit(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let half = &mut connection.halves[side as usize];
        if half.credit_due.is_none()
            && let Some(credit) = half.credits.front()
        {
            half.credit_due = Some(cx.schedule(credit.at, Token::Timer(Timer::Credit, id, side).pack()));
        }
    }

    pub(in crate::model) fn credit_arrives(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let half = &mut connection.halves[side as usize];
        half.credit_due = None;
        half.drain(cx.now);
        self.go_on(id, side, cx);
    }

    pub(super) fn learn_now(&mut self, id: Id, side: u8, acked: u64, limit: u64, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.halves[side as usize].learn(acked, limit);
        self.go_on(id, side, cx);
    }

    /// A sender has learnt something: it sends on, and a writer that waits may go on.
    fn go_on(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        self.pump(id, side, cx);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let half = &mut connection.halves[side as usize];
        if half.writer_waits && half.room() > 0 || half.drain_waits && half.is_drained() {
            (half.writer_waits, half.drain_waits) = (false, false);
            self.effects.push(Effect::Writable { slot: id.index, side });
        } else if half.writer_waits || half.drain_waits {
            self.await_credit(id, side, cx);
        }
    }

    // ---- retransmission -------------------------------------------------------------------------------------------

    /// Sets the retransmission timer of side `side`, unless it runs.
    pub(super) fn arm(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get(id) else { return };
        let half = &connection.halves[side as usize];
        if half.timer.is_some() || connection.ends[side as usize].state != State::Established {
            return;
        }
        let one_way = |h: &Half| self.links[h.link as usize].latency_ns;
        let rtt = one_way(&connection.halves[0]).saturating_add(one_way(&connection.halves[1]));
        let first = RTO_MIN.max(Duration::from_nanos(rtt.saturating_mul(2)));
        let rto = first.saturating_mul(1 << half.retries.min(20)).min(RTO_MAX.max(first));
        let silent_since = if half.retries == 0 { cx.now } else { half.silent_since };
        // Linux, tcp_clamp_rto_to_user_timeout().
        let rto = match connection.ends[side as usize].options.user_timeout {
            Some(limit) => rto.min(limit.saturating_sub(cx.now - silent_since)),
            None => rto,
        };
        let timer = self.set_timer(Timer::Retransmission, id, side, rto, cx);
        let half = &mut self.connections.get_mut(id).expect("found above").halves[side as usize];
        (half.timer, half.silent_since) = (Some(timer), silent_since);
    }

    pub(in crate::model) fn retransmission_due(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let half = &mut connection.halves[side as usize];
        half.timer = None;
        half.drain(cx.now);
        if half.lost.is_empty() && !half.unsure {
            return;
        }
        let options = &connection.ends[side as usize].options;
        let over = options.user_timeout.is_some_and(|limit| cx.now - half.silent_since >= limit);
        if half.retries >= RETRIES || over {
            let retries = half.retries;
            cx.event(connection.ends[side as usize].node, "tcp.timeout", || format!("after {retries} retransmissions"));
            return self.break_off(id, side, Errno::ETIMEDOUT, cx);
        }
        half.retries += 1;
        half.unsure = false;
        let lost = std::mem::take(&mut half.lost);
        if lost.is_empty() {
            let seq = half.sent;
            self.send_segment(Segment::bare(id, side, Kind::Probe, seq), cx);
        }
        for segment in lost {
            cx.event(self.end_node(id, side), "tcp.retransmit", || segment.describe());
            self.send_segment(segment, cx);
        }
        // Whatever is lost again, or whose answer is, sets the timer again with the doubled timeout.
    }
}

impl Connection {
    /// Reports an error once, then EPIPE; as `sk_stream_error()` does.
    fn may_write(&mut self, side: usize) -> Result<(), Errno> {
        let end = &mut self.ends[side];
        if let Some(error) = end.error.take() {
            return Err(error);
        }
        if end.state == State::Gone || self.halves[side].fin != Fin::No {
            return Err(Errno::EPIPE);
        }
        Ok(())
    }

    /// Bytes before errors, an end before errors, errors once: the order of `tcp_recvmsg_locked()`.
    fn copy_out(&mut self, side: usize, room: usize, mut put: impl FnMut(&[u8])) -> Attempt<usize> {
        let half = &self.halves[1 - side];
        let mut n = 0;
        for chunk in &half.ready {
            let take = chunk.rest().len().min(room - n);
            put(&chunk.rest()[..take]);
            n += take;
            if n == room {
                break;
            }
        }
        // Without room it is 0 where bytes wait, and otherwise waits like any read.
        if n > 0 || (room == 0 && !half.ready.is_empty()) || half.fin_received {
            return Ok(Some(n));
        }
        let read_shut = self.ends[side].read_shut;
        let end = &mut self.ends[side];
        match (end.error.take(), end.state) {
            (Some(error), _) => Err(error),
            (None, State::Gone) => Ok(Some(0)),
            (None, _) => Ok(read_shut.then_some(0)),
        }
    }
}

impl Half {
    /// The next segment in order.
    fn take_in(&mut self, segment: Segment) {
        debug_assert_eq!(segment.seq, self.next);
        if segment.kind == Kind::Fin {
            self.next += 1;
            self.fin_received = true;
        } else {
            self.next += segment.payload.len() as u64;
            self.ready.push_back(Chunk { bytes: segment.payload, at: 0 });
        }
    }
}

/// Bytes of several slices, taken front to back.
pub(in crate::model) struct Source<'a, 'b> {
    slices: &'a [IoSlice<'b>],
    at: usize,
}

impl<'a, 'b> Source<'a, 'b> {
    pub fn new(slices: &'a [IoSlice<'b>]) -> Self {
        Source { slices, at: 0 }
    }

    pub fn move_to(&mut self, out: &mut Vec<u8>, mut n: usize) {
        while n > 0 {
            let Some(first) = self.slices.first() else { return };
            let take = n.min(first.len() - self.at);
            out.extend_from_slice(&first[self.at..self.at + take]);
            self.at += take;
            n -= take;
            if self.at == first.len() {
                (self.slices, self.at) = (&self.slices[1..], 0);
            }
        }
    }
}
