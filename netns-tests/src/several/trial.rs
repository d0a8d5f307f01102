//! A trial: clients write and look, faults come one after another, and after each all that was said is checked.

use std::{collections::BTreeMap, time::Duration};

use super::{Fault, Several, writers::Writers};
use crate::{
    Chance,
    traffic::{Answer, ping},
    wait,
};

/// After so many faults the clients get other objects.
const GENERATION: usize = 4;

/// What a trial is to be.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// What chance starts from.
    pub seed: u64,
    /// How long each fault lasts, at least and at most. Most are short.
    pub lasts: [Duration; 2],
    /// How long a client waits between two acts.
    pub think: Duration,
}

impl Trial {
    fn lasts(&self, chance: &mut Chance) -> Duration {
        let [least, most] = self.lasts;
        let part = chance.up_to(Duration::from_secs(1)).as_secs_f64();
        least + (most - least).mul_f64(part.powi(8))
    }
}

/// What came of one kind of fault.
#[derive(Debug, Clone, Default)]
pub struct Toll {
    /// How often it has happened.
    pub count: usize,
    /// How long after it a write was confirmed that began after it.
    pub written: Vec<Duration>,
    /// How long after it all runners that had lost their streams had others, each time that some did while it lasted.
    pub moved: Vec<Duration>,
}

/// What a trial has come to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By kind of fault.
    pub faults: BTreeMap<Fault, Toll>,
    /// Writes that were confirmed, refused, and not answered.
    pub writes: [u64; 3],
    /// Lists that were read, each at one coordinator.
    pub looks: u64,
    /// The longest time in which no write was confirmed at any coordinator.
    pub longest_gap: Duration,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Report {
    /// How many faults there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.faults.values().map(|toll| toll.count).sum()
    }
}

impl Several<'_> {
    /// Runs a trial for as long as `more` says, which is told how it goes after each fault.
    ///
    /// # Panics
    /// If a machine doesn't come back.
    pub fn suffer(&mut self, trial: Trial, mut more: impl FnMut(&Report) -> bool) -> Report {
        let (app, db) = (self.runners[0].attach("shop/app"), self.runners[1].attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        let places = self.coordinators.iter().map(|coordinator| coordinator.data().to_owned()).collect();
        let mut writers = Writers::start(places, trial.think, trial.seed);
        let mut chance = Chance::new(trial.seed);
        let mut report = Report::default();
        let mut hand: Vec<Fault> = vec![];
        while more(&report) {
            // Each kind once, in an order by chance, then anew.
            if hand.is_empty() {
                hand = Fault::ALL.to_vec();
            }
            let fault = hand.swap_remove(chance.below(hand.len()));
            let lasts = trial.lasts(&mut chance);
            self.strike_and_see(fault, &mut chance, lasts, &writers, &mut report);
            self.wait_well().into_iter().for_each(|what| writers.wrong(what));
            writers.check(report.count().is_multiple_of(GENERATION));
            if ping(&mut standing, b"still there").is_err() {
                writers.wrong(format!("a connection between two runners has ended ({})", fault.words()));
            }
            report.take_in(&writers);
        }
        writers.stop();
        writers.check(false);
        self.look_for_false_alarms(&writers);
        report.take_in(&writers);
        report
    }

    fn strike_and_see(
        &mut self,
        fault: Fault,
        chance: &mut Chance,
        lasts: Duration,
        writers: &Writers,
        report: &mut Report,
    ) {
        let mut streams = self.streams();
        let mut last = vec![0; streams.len()];
        let (mut began, mut moved) = (None, None);
        self.strike(fault, chance, lasts, || {
            let began = *began.get_or_insert_with(|| writers.mark());
            for (streams, last) in streams.iter_mut().zip(&mut last) {
                let now = streams.count();
                if now > *last {
                    *last = now;
                    moved = Some(began.elapsed());
                }
            }
            false
        });
        wait::until_true("a write to be confirmed", || writers.since_mark().is_some());
        let toll = report.faults.entry(fault).or_default();
        toll.count += 1;
        toll.written.extend(writers.since_mark());
        toll.moved.extend(moved);
    }

    /// No runner was away for long, and none had two streams.
    fn look_for_false_alarms(&self, writers: &Writers) {
        for action in ["runners-silent", "stream-taken-over"] {
            let noted = self.coordinators[0].json(&["audit", "--action", action]);
            if noted["audit"].as_array().is_none_or(|noted| !noted.is_empty()) {
                writers.wrong(format!("the audit has {action}: {noted:#}"));
            }
        }
    }
}

impl Report {
    fn take_in(&mut self, writers: &Writers) {
        let counts = writers.counts();
        self.writes = [counts.confirmed, counts.refused, counts.unknown];
        (self.looks, self.longest_gap, self.wrong) = (counts.looks, counts.longest_gap, writers.all_wrong());
    }
}
