//! Pings that are asked for, as by `mesh-node ping`.

use std::time::{Duration, Instant};

use mesh_proto::RunnerId;

use super::Peers;
use crate::{
    Event, Sink,
    cx::Cx,
    index::RunnerIx,
    path::Errand,
    peer::Peer,
    probe::{Ping, Pong},
};

/// The most pings that wait for an answer, and how long each may.
const MOST: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// The pings that wait.
#[derive(Debug, Default)]
pub(super) struct Tickets(Vec<Ticket>);

/// What a ping is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For {
    /// The owner of the engine, by its number.
    Owner(u64),
    /// The move with this number.
    Move(u64),
}

#[derive(Debug)]
struct Ticket {
    runner: RunnerId,
    purpose: For,
    since: Instant,
    /// When it was sent, and as which ping; `None` while there is no session.
    sent: Option<(Instant, Ping)>,
}

impl Peers {
    /// Asks a runner for an answer by the path that is used. Without a session, one is made first.
    pub(crate) fn ping<S: Sink>(&mut self, runner: RunnerIx, number: u64, cx: &mut Cx<'_, S>) {
        self.ask(runner, For::Owner(number), cx);
    }

    /// The same, for any purpose.
    pub(super) fn ask<S: Sink>(&mut self, runner: RunnerIx, purpose: For, cx: &mut Cx<'_, S>) {
        if !self.list[runner].can_pong {
            return;
        }
        let id = self.list[runner].runner.id;
        if self.tickets.0.len() < MOST {
            self.tickets.0.push(Ticket { runner: id, purpose, since: cx.now, sent: None });
        }
        if !self.list[runner].is_ready() {
            self.begin(runner, cx);
        }
        self.use_now(runner, cx);
        self.send_tickets(cx);
    }

    /// Sends the pings that can be sent, and forgets those that have waited too long.
    pub(super) fn send_tickets<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.tickets.0.is_empty() {
            return;
        }
        let mut tickets = std::mem::take(&mut self.tickets.0);
        tickets.retain(|ticket| cx.now.saturating_duration_since(ticket.since) < PATIENCE);
        for ticket in tickets.iter_mut().filter(|ticket| ticket.sent.is_none()) {
            let Some(runner) = self.list.find_by(&ticket.runner, |peer| peer.runner.id) else { continue };
            let peer = &mut self.list[runner];
            let way = peer.link.way().filter(|_| peer.is_ready());
            if let Some((way, reach)) = way.zip(peer.link.reach()) {
                let volley = reach.ask(cx.now);
                ticket.sent = volley.pings().next().map(|ping| (cx.now, ping));
                self.run(runner, vec![Errand::Ping(way, volley)], cx);
            }
        }
        self.tickets.0 = tickets;
    }

    /// A runner has answered a ping, perhaps one that was asked for.
    pub(super) fn answer_ticket<S: Sink>(&mut self, runner: RunnerIx, pong: &Pong, cx: &mut Cx<'_, S>) {
        if self.tickets.0.is_empty() {
            return;
        }
        let Peer { link, runner: record, .. } = &self.list[runner];
        let is_it = |ticket: &Ticket| {
            let ping = ticket.sent.map(|(_, ping)| (ping.path, ping.serial));
            ticket.runner == record.id && ping == Some((pong.path, pong.serial))
        };
        let found = self.tickets.0.iter().position(is_it).map(|i| self.tickets.0.swap_remove(i));
        if let Some((ticket, used)) = found.zip(link.used())
            && let Some((sent, _)) = ticket.sent
        {
            match ticket.purpose {
                For::Owner(number) => {
                    let rtt = cx.now.saturating_duration_since(sent);
                    let event = Event::Ping { runner: record.id, ticket: number, path: used.hop, rtt, mtu: used.cut };
                    cx.sink.event(event);
                }
                For::Move(number) => self.end_move(number, cx),
            }
        }
    }
}
