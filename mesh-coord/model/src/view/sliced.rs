//! A view as a list of slices, and its changes.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use mesh_proto::{
    Delta, DeploymentId, Epoch, Key, Revision, RunnerId, ServiceId, View,
    view::{Grant, Network, Record, Runner},
};

/// What all those see of a deployment that see it in the same way. It doesn't change: another one takes its place.
#[derive(Debug)]
pub struct Slice {
    pub(super) deployment: DeploymentId,
    /// Shared with those that see nothing else, or more.
    pub(super) base: Arc<Base>,
    /// The names of its services, by key, which its own hosts see.
    pub(super) names: Part,
}

/// A deployment without the names of its services.
#[derive(Debug)]
pub(super) struct Base {
    /// The deployment, its services and instances, by key. Those of two deployments are never the same.
    pub(super) records: Part,
    /// The runners that the instances are on, by identifier. Slices can have them in common.
    pub(super) runners: Vec<Arc<Runner>>,
}

/// Records with their text.
#[derive(Debug)]
pub struct Part {
    records: Vec<Record>,
    text: OnceLock<Box<str>>,
}

impl Part {
    pub(super) fn new(mut records: Vec<Record>) -> Self {
        records.shrink_to_fit();
        Self { records, text: OnceLock::new() }
    }

    /// The records as text, as `write` makes it at the first call.
    ///
    /// # Errors
    /// If `write` fails.
    pub fn text<E>(&self, write: impl FnOnce(&[Record]) -> Result<String, E>) -> Result<&str, E> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let text = write(&self.records)?.into_boxed_str();
        Ok(self.text.get_or_init(|| text))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn is_like(&self, other: &Self) -> bool {
        all_alike(&self.records, &other.records, Record::is_same)
    }
}

impl Base {
    fn is_like(&self, other: &Self) -> bool {
        self.records.is_like(&other.records) && all_alike(&self.runners, &other.runners, is_same)
    }
}

impl Slice {
    /// Its parts that aren't empty.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        [&self.base.records, &self.names].into_iter().filter(|part| !part.is_empty())
    }

    /// Whether both hold the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.base, &other.base) || self.base.is_like(&other.base)) && self.names.is_like(&other.names)
    }

    /// The same, with what it has in common with another one shared.
    pub(super) fn sharing(mut self, other: Option<&Self>) -> Self {
        if let Some(other) = other.filter(|other| self.base.is_like(&other.base)) {
            self.base = Arc::clone(&other.base);
        }
        self
    }
}

/// A runner's view as a list of slices, as of one revision.
#[derive(Debug, Clone)]
pub struct Sliced {
    /// The run of the coordinator that it is from.
    pub epoch: Epoch,
    /// The commit that it is from.
    pub revision: Revision,
    /// The runner.
    pub runner: RunnerId,
    /// What all runners share.
    pub network: Network,
    pub(super) own: Arc<Runner>,
    /// At most one a deployment, in their order, and none without records.
    pub(super) slices: Vec<Arc<Slice>>,
    /// By caller and callee.
    pub(super) grants: Vec<Arc<Grant>>,
}

impl Sliced {
    /// The slices.
    #[must_use]
    pub fn slices(&self) -> &[Arc<Slice>] {
        &self.slices
    }

    /// The grants.
    #[must_use]
    pub fn grants(&self) -> &[Arc<Grant>] {
        &self.grants
    }

    /// All runners in the view, each once.
    #[must_use]
    pub fn runners(&self) -> Vec<&Arc<Runner>> {
        let others = self.slices.iter().flat_map(|slice| &slice.base.runners);
        distinct(others.chain([&self.own]).collect())
    }

    /// Whether the view holds the deployment.
    #[must_use]
    pub fn holds(&self, deployment: DeploymentId) -> bool {
        self.slices.binary_search_by_key(&deployment, |slice| slice.deployment).is_ok()
    }

    /// The deployments that this view holds and `next` doesn't.
    pub fn gone<'a>(&'a self, next: &'a Self) -> impl Iterator<Item = DeploymentId> + use<'a> {
        pairs(&self.slices, &next.slices, |slice| slice.deployment)
            .filter_map(|pair| if let (Some(slice), None) = pair { Some(slice.deployment) } else { None })
    }

    /// The view with its records.
    #[must_use]
    pub fn to_view(&self) -> View {
        let mut view = View::empty(self.epoch, self.revision, self.runner, self.network);
        let parts = self.slices.iter().flat_map(|slice| slice.parts());
        parts.flat_map(|part| &part.records).for_each(|record| view.put(record.clone()));
        self.runners().into_iter().for_each(|runner| view.put(Record::Runner(Arc::clone(runner))));
        self.grants.iter().for_each(|grant| view.put(Record::Grant(Arc::clone(grant))));
        view
    }

    /// The changes from this view to `next`, a view of the same runner and epoch.
    #[must_use]
    pub fn delta_to(&self, next: &Self) -> Delta {
        let mut changes = Changes { put: Vec::new(), remove: Vec::new() };
        let mut runners_change = !is_same(&self.own, &next.own);
        for (old, new) in pairs(&self.slices, &next.slices, |slice| slice.deployment) {
            if let (Some(old), Some(new)) = (old, new)
                && Arc::ptr_eq(old, new)
            {
                continue;
            }
            let [(base_before, names_before, runners_before), (base, names, runners)] = [old, new].map(contents);
            changes.compare(base_before, base, Record::key, Record::is_same, Clone::clone);
            changes.compare(names_before, names, Record::key, Record::is_same, Clone::clone);
            runners_change |= !all_alike(runners_before, runners, is_same);
        }
        let grant = |grant: &Arc<Grant>| Record::Grant(Arc::clone(grant));
        let grant_key = |grant: &Arc<Grant>| Key::Grant { caller: grant.caller, callee: grant.callee };
        changes.compare(&self.grants, &next.grants, grant_key, is_same, grant);
        if runners_change {
            let runner = |runner: &&Arc<Runner>| Record::Runner(Arc::clone(runner));
            let runner_key = |runner: &&Arc<Runner>| Key::Runner { id: runner.id };
            changes.compare(&self.runners(), &next.runners(), runner_key, |a, b| is_same(a, b), runner);
        }
        let Changes { mut put, mut remove } = changes;
        put.sort_unstable_by_key(Record::key);
        remove.sort_unstable();
        Delta { from: self.revision, to: next.revision, put, remove }
    }

    /// Whether `next` holds the same records.
    #[must_use]
    pub fn is_like(&self, next: &Self) -> bool {
        // Nothing is built for what has not changed.
        let slices = all_alike(&self.slices, &next.slices, |a, b| Arc::ptr_eq(a, b) || a.is_like(b));
        slices && all_alike(&self.grants, &next.grants, is_same) && is_same(&self.own, &next.own)
    }
}

/// What a slice holds: its base, its names and its runners. Nothing, if there is none.
fn contents(slice: Option<&Arc<Slice>>) -> (&[Record], &[Record], &[Arc<Runner>]) {
    slice.map_or((&[], &[], &[]), |slice| (&slice.base.records.records, &slice.names.records, &slice.base.runners))
}

/// The runners that see each other in a view: see [`Sliced::runners`].
pub(super) fn distinct<R: AsRef<Runner>>(mut runners: Vec<R>) -> Vec<R> {
    runners.sort_unstable_by_key(|runner| runner.as_ref().id);
    runners.dedup_by_key(|runner| runner.as_ref().id);
    runners
}

/// The services that a slice is about.
pub(super) type Chosen = BTreeSet<ServiceId>;

struct Changes {
    put: Vec<Record>,
    remove: Vec<Key>,
}

impl Changes {
    fn compare<T>(
        &mut self,
        before: &[T],
        after: &[T],
        key: impl Fn(&T) -> Key,
        same: impl Fn(&T, &T) -> bool,
        record: impl Fn(&T) -> Record,
    ) {
        for pair in pairs(before, after, &key) {
            match pair {
                (Some(old), Some(new)) if same(old, new) => {}
                (_, Some(new)) => self.put.push(record(new)),
                (Some(old), None) => self.remove.push(key(old)),
                (None, None) => {}
            }
        }
    }
}

/// The elements of two lists that are sorted by `key`, in pairs of the same key.
fn pairs<'a, T, K: Ord>(
    mut before: &'a [T],
    mut after: &'a [T],
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = (Option<&'a T>, Option<&'a T>)> {
    std::iter::from_fn(move || {
        let order = match (before.first(), after.first()) {
            (Some(old), Some(new)) => key(old).cmp(&key(new)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let old = if order.is_le() { split_first(&mut before) } else { None };
        let new = if order.is_ge() { split_first(&mut after) } else { None };
        Some((old, new))
    })
}

fn split_first<'a, T>(list: &mut &'a [T]) -> Option<&'a T> {
    let (first, rest) = list.split_first()?;
    *list = rest;
    Some(first)
}

fn is_same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn all_alike<T>(a: &[T], b: &[T], alike: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
}
