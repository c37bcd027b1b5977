//! Keep-alive: an idle connection asks its peer now and then whether it is there (`tcp_keepalive_timer()`).
//!
//! Off unless a program turns it on. Probes and their answers are packets like others: they meet blocks and holds, and
//! chance is asked about each.

use super::*;

/// SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// Whether the connection probes at all.
    pub on: bool,
    /// How long nothing must have come from the peer before the first probe.
    pub idle: Duration,
    /// How long after a probe the next follows.
    pub interval: Duration,
    /// After so many probes without an answer the connection has timed out.
    pub count: u32,
}

impl Default for KeepAlive {
    /// Off; two hours, 75 seconds, 9 probes, as Linux has it.
    fn default() -> Self {
        KeepAlive { on: false, idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 }
    }
}

impl Network {
    /// Begins to watch, from now on or with other times, if keep-alive is on and the connection stands.
    pub(super) fn restart_keep_alive(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[side as usize];
        if let Some(event) = end.keep_alive.take() {
            cx.cancel(event);
        }
        let KeepAlive { on, idle, .. } = end.options.keep_alive;
        if on && end.held && end.state == State::Established {
            self.watch_again(id, side, idle, cx);
        }
    }

    fn watch_again(&mut self, id: Id, side: u8, after: Duration, cx: &mut DeviceCx<'_>) {
        let timer = self.set_timer(Timer::KeepAlive, id, side, after, cx);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.ends[side as usize].keep_alive = Some(timer);
        }
    }

    pub(in crate::model) fn keep_alive_due(&mut self, id: Id, side: u8, cx: &mut DeviceCx<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (own, incoming) = (side as usize, 1 - side as usize);
        let over = connection.halves[incoming].fin_received && connection.halves[own].fin != Fin::No;
        let end = &mut connection.ends[own];
        end.keep_alive = None;
        if end.state != State::Established || !end.options.keep_alive.on || over {
            return;
        }
        let half = &mut connection.halves[own];
        half.drain(cx.now);
        let (KeepAlive { idle, interval, count, .. }, user_timeout) =
            (end.options.keep_alive, end.options.user_timeout);
        if !half.is_drained() {
            // What is under way shows whether the peer is there.
            return self.watch_again(id, side, idle, cx);
        }
        let heard = end.heard.max(half.heard);
        let silent = cx.now - heard;
        if half.heard > end.heard {
            end.heard = half.heard;
            end.probes = 0;
        }
        if silent < idle {
            return self.watch_again(id, side, idle - silent, cx);
        }
        let given_up = match user_timeout {
            Some(limit) => silent >= limit && end.probes > 0,
            None => end.probes >= count,
        };
        if given_up {
            let probes = end.probes;
            cx.event(end.node, "tcp.timeout", || format!("after {probes} keep-alive probes"));
            self.send_rst(id, side, cx);
            return self.break_off(id, side, Errno::ETIMEDOUT, cx);
        }
        end.probes += 1;
        let seq = half.sent;
        self.send_segment(Segment::bare(id, side, Kind::KeepAlive, seq), cx);
        self.watch_again(id, side, interval, cx);
    }

    /// A probe, or the answer to one.
    pub(super) fn keep_alive_arrives(&mut self, segment: Segment, cx: &mut DeviceCx<'_>) {
        let (id, to) = (segment.connection, 1 - segment.from);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let end = &mut connection.ends[to as usize];
        match (end.state, segment.kind) {
            (State::Established, kind) => {
                end.heard = cx.now;
                end.probes = 0;
                if kind == Kind::KeepAlive {
                    let seq = connection.halves[to as usize].sent;
                    self.send_segment(Segment::bare(id, to, Kind::Alive, seq), cx);
                }
            }
            (State::SynReceived, Kind::KeepAlive) => self.handshake_done(id, cx),
            (State::Absent | State::SynSent | State::Gone, Kind::KeepAlive) => self.send_rst(id, to, cx),
            _ => {}
        }
    }
}
