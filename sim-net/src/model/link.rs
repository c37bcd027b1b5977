//! Directed links between nodes: how long a packet takes, and what may become of it.
//!
//! Each packet asks one question. 0: base latency, delivered once. Otherwise the answer's kind says delayed, lost, or
//! (datagrams) duplicated, (streams) cut in two parts that arrive apart; the rest of the answer says how much. Reordering
//! of datagrams is what delays come to. A partition is no state of its own: it is what the links' blocks say.

use sim_core::choices::{Address, Choices, Law, Ratio, Stream};
use sim_core::{Instant, NodeId, hash, nanos};
use std::time::Duration;

/// How likely something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Odds {
    /// The seed decides, once for each run and once for each link: half of the links never, few often; at most 1 in 8.
    Drawn,
    /// This likely.
    Set(Ratio),
}

impl Odds {
    /// Never.
    pub const NEVER: Odds = Odds::Set(Ratio::NEVER);
}

/// The nature of a directed link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// How long a packet takes at least.
    pub latency: Duration,
    /// The most that a delayed packet takes longer. Delays are log-uniform from a microsecond to this.
    pub tail: Duration,
    /// How often a packet is delayed.
    pub delay: Odds,
    /// How often a packet is lost. A stream sends it again, as TCP does; a datagram is gone.
    pub loss: Odds,
    /// How often a datagram arrives twice.
    pub duplicate: Odds,
    /// How often a stream's segment arrives in two parts, so that a reader sees the first without the second.
    pub split: Odds,
    /// Bytes per second; `None` for no limit. Packets leave one after the other.
    pub bandwidth: Option<u64>,
}

impl Default for LinkConfig {
    /// 1 ms, with delays up to 100 ms and split segments where the seed draws them; no loss, no duplicates, no limit.
    fn default() -> Self {
        LinkConfig {
            latency: Duration::from_millis(1),
            tail: Duration::from_millis(100),
            delay: Odds::Drawn,
            loss: Odds::NEVER,
            duplicate: Odds::NEVER,
            split: Odds::Drawn,
            bandwidth: None,
        }
    }
}

impl LinkConfig {
    /// 10 µs and nothing ever happens to a packet: within one node unless configured otherwise.
    pub fn loopback() -> Self {
        LinkConfig { latency: Duration::from_micros(10), delay: Odds::NEVER, split: Odds::NEVER, ..Self::default() }
    }
}

pub(super) struct Link {
    pub from: NodeId,
    pub to: NodeId,
    pub latency_ns: u64,
    tail_us: u64,
    bandwidth: Option<u64>,
    pub datagrams: Law,
    pub segments: Law,
    /// How many blocks lie on it; each is lifted once.
    pub blocks: u32,
    pub held: bool,
    /// Packets that wait for the release, and when they were due.
    pub queue: Vec<(u32, Instant)>,
    /// When the last byte leaves, if bandwidth is limited.
    busy_until: Instant,
    drawn: Ratio,
    /// Set for this link alone.
    pub own: Option<Box<LinkConfig>>,
}

impl Link {
    pub fn new(from: NodeId, to: NodeId, drawn: Ratio, config: &LinkConfig) -> Link {
        let never = Law::Kinds([0; 3]);
        let mut link = Link {
            from,
            to,
            latency_ns: 0,
            tail_us: 0,
            bandwidth: None,
            datagrams: never,
            segments: never,
            blocks: 0,
            held: false,
            queue: Vec::new(),
            busy_until: Instant::ZERO,
            drawn,
            own: None,
        };
        link.follow(config);
        link
    }

    /// Behaves as `config` says from now on.
    pub fn follow(&mut self, config: &LinkConfig) {
        let odds = |odds| match odds {
            Odds::Drawn => self.drawn.threshold(),
            Odds::Set(ratio) => ratio.threshold(),
        };
        let (delay, loss) = (odds(config.delay), odds(config.loss));
        // Certain loss leaves nothing to delay.
        let delay = if loss >= 1 << 32 { 0 } else { delay };
        self.datagrams = Law::Kinds([delay, loss, odds(config.duplicate)]);
        self.segments = Law::Kinds([delay, loss, odds(config.split)]);
        self.latency_ns = nanos(config.latency);
        self.tail_us = nanos(config.tail) / 1000;
        self.bandwidth = config.bandwidth;
    }

    /// When a packet of `len` bytes that is sent now arrives.
    #[inline]
    pub fn due(&mut self, now: Instant, len: usize) -> Instant {
        let Some(bandwidth) = self.bandwidth else { return Instant(now.0.saturating_add(self.latency_ns)) };
        let takes = (len as u128 * 1_000_000_000).div_ceil(bandwidth.max(1) as u128).min(u64::MAX as u128) as u64;
        self.busy_until = Instant(self.busy_until.max(now).0.saturating_add(takes));
        Instant(self.busy_until.0.saturating_add(self.latency_ns))
    }

    /// What a fate's detail adds to the latency: log-uniform up to the tail.
    pub fn extra(&self, detail: u64) -> Duration {
        let tail_us = self.tail_us.clamp(1, 1 << 40);
        let bits = 64 - tail_us.leading_zeros() as u64;
        let magnitude = ((detail & 0x7fff) * bits) >> 15;
        let base = 1u64 << magnitude;
        let within = (((detail >> 15) & 0x7fff) as u128 * base as u128) >> 15;
        Duration::from_micros((base + within as u64).min(tail_us))
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Calm,
    Delayed(u64),
    Lost,
    /// A datagram twice, a segment in two parts.
    Doubled(u64),
}

impl Fate {
    #[inline]
    pub fn of(answer: u64) -> Fate {
        match answer & 3 {
            0 => Fate::Calm,
            1 => Fate::Delayed(answer >> 2),
            2 => Fate::Lost,
            _ => Fate::Doubled(answer >> 2),
        }
    }
}

/// How rough all links of this run are: 0 is not at all.
pub(super) fn draw_roughness(choices: &mut Choices) -> u64 {
    let at = Address { stream: Stream::CONFIG, key: hash::text("net"), n: 0 };
    choices.name_key(at.key, || "network".into());
    let law = Law::Weighted { none: 2, of: [3, 2, 1, 0] };
    choices.ask(at, law, "how rough the network is", Instant::ZERO, NodeId::OUTSIDE)
}

/// How often packets of one link deviate, where its odds are drawn.
pub(super) fn draw_link(choices: &mut Choices, roughness: u64, key: u64) -> Ratio {
    let at = Address { stream: Stream::CONFIG, key, n: 0 };
    let law = Law::Weighted { none: 1, of: [1, 1, 0, 0] };
    let share = choices.ask(at, law, "how rough a link is", Instant::ZERO, NodeId::OUTSIDE) as u32;
    let den = match roughness {
        0 => return Ratio::NEVER,
        1 => 1024,
        2 => 128,
        _ => 16,
    };
    Ratio::new(share.min(2), den)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(config: LinkConfig) -> Link {
        Link::new(NodeId(1), NodeId(2), Ratio::new(1, 8), &config)
    }

    #[test]
    fn a_delay_is_between_a_microsecond_and_the_tail_whatever_the_answer() {
        let link = link(LinkConfig { tail: Duration::from_millis(3), ..LinkConfig::default() });
        for detail in (0..1 << 30).step_by(9973) {
            let extra = link.extra(detail);
            assert!((Duration::from_micros(1)..=Duration::from_millis(3)).contains(&extra), "{detail}: {extra:?}");
        }
        assert_eq!(link.extra(u64::MAX >> 34), Duration::from_millis(3));
    }

    #[test]
    fn limited_bandwidth_lets_packets_leave_one_after_the_other() {
        let mut link = link(LinkConfig { bandwidth: Some(1_000_000), ..LinkConfig::default() });
        assert_eq!(link.due(Instant(0), 1000), Instant(2_000_000));
        assert_eq!(link.due(Instant(0), 1000), Instant(3_000_000));
        assert_eq!(link.due(Instant(9_000_000), 1000), Instant(11_000_000));
    }

    #[test]
    fn certain_loss_is_certain() {
        let link = link(LinkConfig { loss: Odds::Set(Ratio::ALWAYS), ..LinkConfig::default() });
        assert_eq!(Fate::of(link.datagrams.value(u64::MAX)), Fate::Lost);
        assert_eq!(Fate::of(link.datagrams.value(0)), Fate::Lost);
    }
}
