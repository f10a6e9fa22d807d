//! Random numbers that a seed gives.

/// The same ones for the same seed.
pub(crate) struct Moments(blake3::OutputReader);

impl Moments {
    pub(crate) fn of(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    /// One of so many, from 0.
    pub(crate) fn pick(&mut self, of: u16) -> u16 {
        let mut bytes = [0; 2];
        self.0.fill(&mut bytes);
        u16::from_le_bytes(bytes) % of
    }
}
