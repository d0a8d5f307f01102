//! A commit: one transaction that swaps the head, with the changes in it or in parts that were written before.

use super::{
    layout::{Layout, Named, Texts, Top, delete, is_unchanged, put},
    position::Known,
    right,
    wire::{Compare, KeyValue, Op, RangeRequest, Request, TxnRequest, TxnResponse},
};
use crate::{
    right::Right,
    store::{Draft, StoreError},
};

/// The most changes of one transaction. etcd takes 128 operations.
const MOST: usize = 120;
/// The most bytes of one. etcd takes 1.5 MiB.
const BYTES: usize = 1 << 20;

/// What to send for a commit.
#[derive(Debug)]
pub struct Plan {
    /// The head that it puts.
    pub top: Top,
    /// To be written before: parts, which mean nothing until the head has them.
    pub parts: Vec<TxnRequest>,
    /// Swaps the head, which is the commit.
    pub swap: TxnRequest,
}

/// Plans the commit after `known`, the newest one, whose parts are folded. It is made only while the draft's right is there.
///
/// # Errors
/// If a change is too large, or can't be written.
pub fn plan(layout: &Layout, known: Option<&Known>, draft: &Draft) -> Result<Plan, StoreError> {
    let texts = Texts::of(&draft.changes)?;
    let stamp = (draft.epoch, draft.nonce, draft.running);
    let before = known.map(|known| &known.top);
    let (parts, number, writes) = if texts.0.len() <= MOST && texts.size() <= BYTES {
        (vec![], 0, layout.writes(&texts))
    } else {
        let pieces = texts.clone().cut(MOST, BYTES).ok_or(StoreError::TooLarge)?;
        let number = u32::try_from(pieces.len()).map_err(|_| StoreError::TooLarge)?;
        (pieces, number, vec![])
    };
    let top = Top::next(before, stamp, &texts, number);
    let parts = parts.iter().enumerate().map(|(number, piece)| {
        let text = serde_json::to_vec(piece).map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(TxnRequest { success: vec![put(layout.part(&top, number), text, 0)], ..TxnRequest::default() })
    });
    let parts = parts.collect::<Result<_, StoreError>>()?;
    let head = serde_json::to_vec(&top).map_err(|error| StoreError::Failed(error.to_string()))?;
    let mut success = vec![put(layout.head(), head, 0)];
    success.extend(writes);
    if let Some(before) = before.filter(|before| before.parts > 0) {
        success.push(delete(layout.parts_until(before.revision)));
    }
    let (mut compare, mut failure) = (vec![head_is(layout, known)], vec![get_head(layout)]);
    compare.extend(draft.right.map(|right| right::fence(layout, right)));
    failure.extend(draft.right.map(|right| right::look(layout, right)));
    Ok(Plan { top, parts, swap: TxnRequest { compare, success, failure } })
}

/// The transactions that write the parts of the newest commit to the records, under its unchanged head. To do it twice,
/// or two at once, is harmless.
#[must_use]
pub fn folds(layout: &Layout, known: &Known, parts: &[Texts]) -> Vec<TxnRequest> {
    let fold = |piece: &Texts| TxnRequest {
        compare: vec![head_is(layout, Some(known))],
        success: layout.writes(piece),
        failure: vec![get_head(layout)],
    };
    parts.iter().map(fold).collect()
}

/// The transaction that takes the head away from the records.
///
/// # Errors
/// If there is none.
pub fn retire(layout: &Layout, known: Option<&Known>, right: Option<Right>) -> Result<TxnRequest, StoreError> {
    let top = known.ok_or_else(|| StoreError::Failed("it holds no records".to_owned()))?.top;
    let head = serde_json::to_vec(&top).map_err(|error| StoreError::Failed(error.to_string()))?;
    let mut compare = vec![head_is(layout, known)];
    compare.extend(right.map(|right| right::fence(layout, right)));
    let success = vec![delete((layout.head(), vec![])), put(layout.retired(), head, 0)];
    Ok(TxnRequest { compare, success, failure: vec![] })
}

/// What came of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, at this revision of etcd's.
    Done(i64),
    /// The head is another one, which is `None` if there is none.
    Moved(Option<Known>),
    /// The right has ended: nothing was changed.
    Ended,
}

/// What an answer says. A transaction whose answer was lost may have been sent again by what is between; the nonce tells.
///
/// # Errors
/// If the head can't be read.
pub fn outcome(layout: &Layout, top: &Top, right: Option<Right>, answer: &TxnResponse) -> Result<Outcome, StoreError> {
    if answer.succeeded {
        let header = answer.header.as_ref();
        return Ok(Outcome::Done(header.map_or(0, |header| header.revision)));
    }
    let found: Vec<_> = answer.responses.iter().map(|response| response.range.as_ref()?.kvs.first()).collect();
    let (head, ours) = (found.first().copied().flatten(), found.get(1).copied().flatten());
    match head.map(|kv| known(layout, kv)).transpose()? {
        Some(known) if (known.top.revision, known.top.nonce) == (top.revision, top.nonce) => {
            Ok(Outcome::Done(known.at))
        }
        _ if right.is_some_and(|right| !right::is_held(right, ours)) => Ok(Outcome::Ended),
        moved => Ok(Outcome::Moved(moved)),
    }
}

/// The head, as it was read.
///
/// # Errors
/// If it can't be read.
pub fn known(layout: &Layout, kv: &KeyValue) -> Result<Known, StoreError> {
    debug_assert_eq!(layout.named(&kv.key), Named::Head, "the head was asked for");
    Ok(Known { top: Top::read(&kv.value)?, at: kv.mod_revision })
}

fn head_is(layout: &Layout, known: Option<&Known>) -> Compare {
    is_unchanged(layout.head(), known.map(|known| known.at))
}

fn get_head(layout: &Layout) -> Op {
    let range = RangeRequest { key: layout.head(), ..RangeRequest::default() };
    Op { request: Some(Request::Range(range)) }
}

#[cfg(test)]
mod tests {
    use mesh_model::record::MemberId;
    use mesh_proto::Revision;

    use super::{
        super::wire::{Against, Header, OpAnswer, RangeResponse},
        *,
    };
    use crate::{
        store::Nonce,
        testing::{draft, put as record},
    };

    fn layout() -> Layout {
        Layout::new("mesh")
    }

    fn planned(known: Option<&Known>, records: u64) -> Plan {
        plan(&layout(), known, &draft((0..records).map(record).collect())).unwrap()
    }

    fn refused_with(head: Option<&Known>) -> TxnResponse {
        let kv = |known: &Known| KeyValue {
            key: layout().head(),
            value: serde_json::to_vec(&known.top).unwrap(),
            mod_revision: known.at,
            ..KeyValue::default()
        };
        let range = RangeResponse { kvs: head.map(kv).into_iter().collect(), ..RangeResponse::default() };
        TxnResponse { responses: vec![OpAnswer { range: Some(range) }], ..TxnResponse::default() }
    }

    #[test]
    fn a_commit_swaps_the_head_with_its_changes() {
        let first = planned(None, 3);
        assert_eq!((first.parts.len(), first.swap.success.len(), first.top.parts), (0, 4, 0));
        assert_eq!(first.swap.compare[0].against, Some(Against::Version(0)), "it makes the head");
        let known = Known { top: first.top, at: 5 };
        let second = planned(Some(&known), 0);
        assert_eq!(second.swap.compare[0].against, Some(Against::ModRevision(5)));
        assert_eq!((second.top.revision, second.top.previous), (Revision(2), first.top.nonce));
    }

    #[test]
    fn a_big_commit_is_written_in_parts_before() {
        let big = planned(None, 300);
        assert_eq!((big.parts.len(), big.swap.success.len(), big.top.parts, big.top.changes), (3, 1, 3, 300));
        let folded = planned(Some(&Known { top: big.top, at: 9 }), 1);
        assert_eq!(folded.swap.success.len(), 3, "the next one deletes the parts");
        let texts = Texts::of(&(0..300).map(record).collect::<Vec<_>>()).unwrap();
        let pieces = texts.cut(MOST, BYTES).unwrap();
        for fold in folds(&layout(), &Known { top: big.top, at: 9 }, &pieces) {
            assert!(fold.success.len() <= MOST && fold.compare[0].against == Some(Against::ModRevision(9)));
        }
        assert!(Texts::of(&[record(1)]).unwrap().cut(MOST, 10).is_none(), "one change that is too large");
    }

    #[test]
    fn a_commit_is_made_only_by_the_right_by_which_it_was_decided_on() {
        let right = Right::Place { member: MemberId(7), lease: 70 };
        let by = |right| plan(&layout(), None, &Draft { right, ..draft(vec![record(1)]) }).unwrap();
        assert_eq!(by(None).swap.compare.len(), 1);
        let planned = by(Some(right));
        let fence = &planned.swap.compare[1];
        assert_eq!((&fence.key, &fence.against), (&layout().member(MemberId(7)), &Some(Against::Lease(70))));
        // The head is what it was, and the place is not there, or another one.
        let refused = |lease: Option<i64>| {
            let kv = |lease| KeyValue { key: layout().member(MemberId(7)), lease, ..KeyValue::default() };
            let place = RangeResponse { kvs: lease.map(kv).into_iter().collect(), ..RangeResponse::default() };
            let mut answer = refused_with(None);
            answer.responses.push(OpAnswer { range: Some(place) });
            outcome(&layout(), &planned.top, Some(right), &answer).unwrap()
        };
        assert_eq!([None, Some(71), Some(70)].map(refused), [Outcome::Ended, Outcome::Ended, Outcome::Moved(None)]);
    }

    #[test]
    fn the_nonce_tells_whose_commit_it_is() {
        let top = planned(None, 1).top;
        let of = |answer| outcome(&layout(), &top, None, &answer).unwrap();
        let header = Some(Header { revision: 7 });
        assert_eq!(of(TxnResponse { succeeded: true, header, ..TxnResponse::default() }), Outcome::Done(7));
        assert_eq!(of(refused_with(Some(&Known { top, at: 6 }))), Outcome::Done(6), "made by an earlier copy of it");
        let theirs = plan(&layout(), None, &Draft { nonce: Nonce(3), ..draft(vec![record(1)]) }).unwrap().top;
        let other = Known { top: theirs, at: 6 };
        assert_eq!(of(refused_with(Some(&other))), Outcome::Moved(Some(other)));
        assert_eq!(of(refused_with(None)), Outcome::Moved(None));
    }
}
