//! Finds flows by their ends.

use super::end::End;

/// The ends of a flow, in an order that doesn't depend on their roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey(u64, u64);

impl FlowKey {
    #[inline]
    pub(super) fn of(a: End, b: End) -> Self {
        let number = |end: End| u64::from(end.address.to_bits()) << 16 | u64::from(end.port);
        let (a, b) = (number(a), number(b));
        if a <= b { Self(a, b) } else { Self(b, a) }
    }
}

impl std::hash::Hash for FlowKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
        state.write_u64(self.1);
    }
}

/// Builds [`Folded`] hashers that start from a seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeded(pub(super) u64);

impl std::hash::BuildHasher for Seeded {
    type Hasher = Folded;

    #[inline]
    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Folded multiplication by an odd constant, as in wyhash. An attacker without the seed can't choose keys that collide.
pub(super) struct Folded(u64);

impl std::hash::Hasher for Folded {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}
