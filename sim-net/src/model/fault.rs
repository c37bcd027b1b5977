//! What plans and tests may do to links: block, partition, hold, slow down, lose.
//!
//! Commands change the filters only; what they really did to a packet is counted where it happens (`net.partition`,
//! `net.hold`, `net.loss`, `net.delay`, `net.duplicate`, `net.split`). A partition that no packet met counts nothing.

use super::{LinkConfig, Network, Odds, Token};
use sim_core::choices::Ratio;
use sim_core::{DeviceCx, NodeId};
use std::time::Duration;

impl Network {
    /// Drops whatever leaves or arrives from `from` to `to`, acknowledgements included, until it is unblocked. Blocks add
    /// up: a link blocked twice opens at the second [`unblock`](Self::unblock), so overlapping faults end by themselves.
    pub fn block(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) {
        let link = self.link(from, to, cx) as usize;
        self.links[link].blocks += 1;
        cx.event(from, "net.block", || format!("to {}", self.name(to)));
    }

    /// Takes one block back. Does nothing on an open link.
    pub fn unblock(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) {
        let link = self.link(from, to, cx) as usize;
        self.links[link].blocks = self.links[link].blocks.saturating_sub(1);
        cx.event(from, "net.unblock", || format!("to {}", self.name(to)));
    }

    /// Blocks every link between nodes of different groups, both ways. Nodes in no group still reach everybody.
    pub fn partition(&mut self, groups: &[&[NodeId]], cx: &mut DeviceCx<'_>) {
        self.each_crossing(groups, |net, from, to| {
            let link = net.link(from, to, cx) as usize;
            net.links[link].blocks += 1;
        });
        cx.event(NodeId::OUTSIDE, "net.split-up", || self.describe_groups(groups));
    }

    /// Takes back what [`partition`](Self::partition) did with the same groups, and no other block.
    pub fn rejoin(&mut self, groups: &[&[NodeId]], cx: &mut DeviceCx<'_>) {
        self.each_crossing(groups, |net, from, to| {
            let link = net.link(from, to, cx) as usize;
            net.links[link].blocks = net.links[link].blocks.saturating_sub(1);
        });
        cx.event(NodeId::OUTSIDE, "net.rejoin", || self.describe_groups(groups));
    }

    fn each_crossing(&mut self, groups: &[&[NodeId]], mut f: impl FnMut(&mut Network, NodeId, NodeId)) {
        for (i, a) in groups.iter().enumerate() {
            for (j, b) in groups.iter().enumerate() {
                for (from, to) in a.iter().flat_map(|x| b.iter().map(move |y| (*x, *y))) {
                    if i != j && from != to {
                        f(self, from, to);
                    }
                }
            }
        }
    }

    fn describe_groups(&self, groups: &[&[NodeId]]) -> String {
        let group = |g: &&[NodeId]| g.iter().map(|n| self.name(*n)).collect::<Vec<_>>().join(" ");
        groups.iter().map(group).collect::<Vec<_>>().join(" | ")
    }

    /// Takes all blocks back, whoever set them, and releases all held links. Loss and latency stay as they are set.
    pub fn heal(&mut self, cx: &mut DeviceCx<'_>) {
        for link in 0..self.links.len() {
            self.links[link].blocks = 0;
            let (from, to, held) = (self.links[link].from, self.links[link].to, self.links[link].held);
            if held {
                self.release(from, to, cx);
            }
        }
        cx.event(NodeId::OUTSIDE, "net.heal", String::new);
    }

    /// Lets packets from `from` to `to` wait. What is under way already arrives.
    pub fn hold(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) {
        let link = self.link(from, to, cx) as usize;
        self.links[link].held = true;
        cx.event(from, "net.hold-link", || format!("to {}", self.name(to)));
    }

    /// Lets what waited go on, in the order it was sent: at once, or when it was due if that is later.
    pub fn release(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) {
        let link = self.link(from, to, cx) as usize;
        self.links[link].held = false;
        for (place, due) in std::mem::take(&mut self.links[link].queue) {
            cx.schedule(due, Token::Arrival(place).pack());
        }
        cx.event(from, "net.release", || format!("to {}", self.name(to)));
    }

    /// What the link from `from` to `to` is like at present.
    pub fn link_config(&self, from: NodeId, to: NodeId) -> LinkConfig {
        let link = self.machines[from.0 as usize].links.get(to.0 as usize);
        let own = link.and_then(|l| self.links.get(*l as usize)).and_then(|l| l.own.as_deref());
        own.unwrap_or(if from == to { &self.config.loopback } else { &self.config.link }).clone()
    }

    /// Gives the link from `from` to `to` a nature of its own. Packets under way are not touched.
    pub fn set_link(&mut self, from: NodeId, to: NodeId, config: LinkConfig, cx: &mut DeviceCx<'_>) {
        cx.event(from, "net.link", || format!("to {}: {config:?}", self.name(to)));
        let link = self.link(from, to, cx) as usize;
        self.links[link].follow(&config);
        self.links[link].own = Some(Box::new(config));
    }

    /// Lets the link from `from` to `to` be like all others again.
    pub fn reset_link(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) {
        let link = self.link(from, to, cx) as usize;
        self.links[link].own = None;
        let config = if from == to { &self.config.loopback } else { &self.config.link };
        self.links[link].follow(config);
        cx.event(from, "net.link", || format!("to {}: as all others", self.name(to)));
    }

    /// Loses packets from `from` to `to` this often.
    pub fn set_loss(&mut self, from: NodeId, to: NodeId, loss: Ratio, cx: &mut DeviceCx<'_>) {
        let config = LinkConfig { loss: Odds::Set(loss), ..self.link_config(from, to) };
        self.set_link(from, to, config, cx);
    }

    /// Lets packets from `from` to `to` take at least this long.
    pub fn set_latency(&mut self, from: NodeId, to: NodeId, latency: Duration, cx: &mut DeviceCx<'_>) {
        let config = LinkConfig { latency, ..self.link_config(from, to) };
        self.set_link(from, to, config, cx);
    }

    /// What all links between different nodes are like that have no nature of their own.
    pub fn set_default_link(&mut self, config: LinkConfig) {
        for link in self.links.iter_mut().filter(|l| l.own.is_none() && l.from != l.to) {
            link.follow(&config);
        }
        self.config.link = config;
    }
}
