//! An input, read piece by piece. It continues with zeros.

pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        taken.fill_with(|| self.byte());
        taken
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn half(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    pub(super) fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }
}
