//! Whether what a coordinator knows is fresh: when it last had all that was confirmed.

use std::time::{Duration, Instant};

/// How old the last contact with the database may be.
const STALE: Duration = Duration::from_secs(3);
/// How long another one has to have the database while this one doesn't. When it comes back, it comes back to all, but
/// not in the same moment.
const ALONE: Duration = Duration::from_secs(1);
/// After how long without the database the streams end if another coordinator can't be asked.
const UNSURE: Duration = Duration::from_secs(6);

/// When the state was known to be fresh.
#[derive(Debug, Clone, Copy)]
pub struct Contact(Instant);

impl Contact {
    /// The state was just read.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self(now)
    }

    /// The state has all that was confirmed before `began`.
    pub fn made(&mut self, began: Instant) {
        self.0 = began.max(self.0);
    }

    /// For how long the database has been away, if it is: requests and new streams are refused then.
    #[must_use]
    pub fn lost_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.0)).filter(|age| *age > STALE)
    }
}

/// What another coordinator says of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It has it.
    HasIt,
    /// It has lost it too.
    HasLostIt,
    /// It doesn't answer.
    Nothing,
}

/// Whether the streams have to end, so that their other ends look for another coordinator.
#[derive(Debug, Default)]
pub struct Doubt {
    /// Since when another one has it.
    other_has_it: Option<Instant>,
    is_cut_off: bool,
}

impl Doubt {
    /// Judges anew. `lost_for`: how long this coordinator has been without the database; `None`: it has it.
    pub fn judge(&mut self, lost_for: Option<Duration>, heard: &[Heard], now: Instant) -> bool {
        let Some(lost_for) = lost_for else {
            *self = Self::default();
            return false;
        };
        if heard.contains(&Heard::HasIt) {
            let since = *self.other_has_it.get_or_insert(now);
            self.is_cut_off |= now.saturating_duration_since(since) >= ALONE;
        } else {
            self.other_has_it = None;
            self.is_cut_off |= heard.contains(&Heard::Nothing) && lost_for >= UNSURE;
        }
        self.is_cut_off
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard::*, *};

    #[test]
    fn a_coordinator_without_contact_is_stale() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut contact = Contact::new(start);
        assert_eq!(contact.lost_for(at(3)), None);
        assert_eq!(contact.lost_for(at(4)), Some(Duration::from_secs(4)));
        contact.made(at(5));
        contact.made(at(2));
        assert_eq!(contact.lost_for(at(8)), None, "what began earlier and was answered later takes nothing back");
    }

    /// What is judged at each second after the loss, of what is heard.
    fn judged(heard: &[&[Heard]]) -> Vec<bool> {
        let (begun, mut doubt) = (Instant::now(), Doubt::default());
        let after = |second: usize| Duration::from_secs(second as u64 + 3);
        heard
            .iter()
            .enumerate()
            .map(|(second, heard)| doubt.judge(Some(after(second)), heard, begun + after(second)))
            .collect()
    }

    #[test]
    fn nothing_ends_while_no_other_has_the_database_either() {
        let (lost, alone): (&[Heard], &[Heard]) = (&[HasLostIt, HasLostIt], &[]);
        assert_eq!(judged(&[lost; 60]), [false; 60]);
        assert_eq!(judged(&[alone; 60]), [false; 60], "it is the only one");
    }

    #[test]
    fn streams_end_if_another_one_has_the_database_and_goes_on_to() {
        assert_eq!(judged(&[&[HasLostIt, HasIt], &[Nothing, HasIt], &[HasLostIt; 2]]), [false, true, true]);
        // It comes back, to the other one a moment earlier.
        assert_eq!(judged(&[&[HasLostIt], &[HasIt], &[HasLostIt]]), [false; 3]);
        let mut doubt = Doubt::default();
        let now = Instant::now();
        doubt.judge(Some(UNSURE), &[HasIt], now);
        assert!(!doubt.judge(None, &[], now + ALONE));
        assert!(!doubt.judge(Some(UNSURE), &[HasIt], now + 9 * ALONE), "it was back meanwhile");
    }

    #[test]
    fn streams_end_after_a_while_if_another_one_cannot_be_asked() {
        let heard: &[Heard] = &[HasLostIt, Nothing];
        assert_eq!(judged(&[heard; 5]), [false, false, false, true, true]);
    }
}
