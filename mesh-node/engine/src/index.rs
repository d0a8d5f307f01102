//! Typed indices: a position in one list can't be used in another by mistake.

use std::{
    marker::PhantomData,
    ops::{Index, IndexMut},
};

use crate::lane_set::{LANES, LaneIx};

/// A position in a list.
pub(crate) trait Ix: Copy {
    fn new(position: usize) -> Self;
    fn position(self) -> usize;
}

macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);

        impl Ix for $name {
            #[inline]
            fn new(position: usize) -> Self {
                Self(position as u32)
            }

            #[inline]
            fn position(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

indices! {
    /// Another runner in the current map.
    RunnerIx;
    /// An instance in the current map.
    InstanceIx;
    /// A service in the current map.
    ServiceIx;
    /// The instances of a service that run one release, in the current map.
    PoolIx;
    /// A deployment in the current map.
    DeploymentIx;
    /// A team in the current map.
    TeamIx;
    /// A place in the flow table.
    Slot;
    /// A pair of services in the counters.
    PairIx;
}

/// The local index of a tunnel, which the messages for it carry: 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TunnelIx(pub(crate) u32);

impl TunnelIx {
    /// The index with these bits on a lane, whose number is in the low ones.
    pub(crate) const fn on(lane: LaneIx, bits: u32) -> Self {
        Self(bits & !(LANES as u32 - 1) | lane.0 as u32)
    }

    /// The lane of the tunnel.
    #[inline]
    pub(crate) const fn lane(self) -> LaneIx {
        LaneIx((self.0 % LANES as u32) as u8)
    }
}

impl DeploymentIx {
    /// Stands for the deployment of a service that the map doesn't hold.
    pub(crate) const UNKNOWN: Self = Self(u32::MAX);
}

/// A list whose positions have a type of their own.
#[derive(Debug, Clone)]
pub(crate) struct IxVec<I, T> {
    items: Vec<T>,
    index: PhantomData<fn(I)>,
}

impl<I: Ix, T> IxVec<I, T> {
    pub(crate) const fn new() -> Self {
        Self { items: Vec::new(), index: PhantomData }
    }

    pub(crate) const fn len(&self) -> usize {
        self.items.len()
    }

    /// Appends an item and returns its position.
    pub(crate) fn push(&mut self, item: T) -> I {
        self.items.push(item);
        I::new(self.items.len() - 1)
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// Replaces the content by `count` copies of `item`.
    pub(crate) fn reset(&mut self, count: usize, item: T)
    where
        T: Clone,
    {
        self.items.clear();
        self.items.resize(count, item);
    }

    #[inline]
    pub(crate) fn get(&self, at: I) -> Option<&T> {
        self.items.get(at.position())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: I) -> Option<&mut T> {
        self.items.get_mut(at.position())
    }

    pub(crate) fn values(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    pub(crate) fn values_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    pub(crate) fn into_values(self) -> std::vec::IntoIter<T> {
        self.items.into_iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.items.iter().enumerate().map(|(position, item)| (I::new(position), item))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.items.iter_mut().enumerate().map(|(position, item)| (I::new(position), item))
    }

    /// The position of the item with this key. The list has to be sorted by it.
    pub(crate) fn find_by<K: Ord>(&self, key: &K, of: impl FnMut(&T) -> K) -> Option<I> {
        self.items.binary_search_by_key(key, of).ok().map(I::new)
    }
}

impl<I: Ix, T> Default for IxVec<I, T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Without spare capacity: maps are compiled once and kept.
impl<I: Ix, T> FromIterator<T> for IxVec<I, T> {
    fn from_iter<A: IntoIterator<Item = T>>(items: A) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.shrink_to_fit();
        Self { items, index: PhantomData }
    }
}

impl<I, T> Extend<T> for IxVec<I, T> {
    fn extend<A: IntoIterator<Item = T>>(&mut self, items: A) {
        self.items.extend(items);
    }
}

impl<I: Ix, T> Index<I> for IxVec<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, at: I) -> &T {
        &self.items[at.position()]
    }
}

impl<I: Ix, T> IndexMut<I> for IxVec<I, T> {
    #[inline]
    fn index_mut(&mut self, at: I) -> &mut T {
        &mut self.items[at.position()]
    }
}
