//! Seeded random numbers: xoshiro256++, so that a seed gives the same traffic on every machine.

/// Source: Blackman and Vigna, xoshiro256++ 1.0; the state is filled by splitmix64 as they advise.
#[derive(Debug, Clone)]
pub(super) struct Random([u64; 4]);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    pub(super) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `permyriad` of 10,000 calls.
    pub(super) fn chance(&mut self, permyriad: u16) -> bool {
        self.below(10_000) < u64::from(permyriad)
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }

    /// In (0, 1].
    pub(super) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Log-normal around `median`; `sigma` is the standard deviation of the logarithm.
    /// The normal is a sum of eight uniform numbers, cut off at 4.9 standard deviations.
    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let lanes = [self.next(), self.next()];
        let sum: u64 = lanes.iter().flat_map(|lane| [0, 16, 32, 48].map(|by| (lane >> by) & 0xffff)).sum();
        let normal = (sum as f64 - 8.0 * 32_767.5) / (65_536.0 * (8.0_f64 / 12.0).sqrt());
        median * (sigma * normal).exp()
    }

    /// Small numbers often, large ones seldom: the cube of a uniform number.
    pub(super) fn skewed(&mut self, bound: u64) -> u64 {
        let unit = self.unit();
        ((unit * unit * unit * bound as f64) as u64).min(bound - 1)
    }
}
