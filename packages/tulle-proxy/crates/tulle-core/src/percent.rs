//! Envoy's fractional percentages, kept as a share of a million.

/// A probability in millionths (`envoy.type.v3.FractionalPercent` with any denominator).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FractionalPercent {
    per_million: u32,
}

impl FractionalPercent {
    pub const NEVER: FractionalPercent = FractionalPercent { per_million: 0 };
    pub const ALWAYS: FractionalPercent = FractionalPercent { per_million: 1_000_000 };

    /// `numerator` of `denominator` (100, 10 000 or 1 000 000); more than all of it means always, as in Envoy.
    pub fn new(numerator: u32, denominator: u32) -> Self {
        let share = u64::from(numerator) * 1_000_000 / u64::from(denominator.max(1));
        FractionalPercent { per_million: share.min(1_000_000) as u32 }
    }

    /// From a percentage such as 12.5; outside 0..=100 it is clamped.
    pub fn from_percent(percent: f64) -> Self {
        FractionalPercent { per_million: (percent.clamp(0.0, 100.0) * 10_000.0).round() as u32 }
    }

    pub fn per_million(self) -> u32 {
        self.per_million
    }

    /// Whether a request that drew `random` (64 uniform bits) is in the share.
    #[inline]
    pub fn hits(self, random: u64) -> bool {
        random % 1_000_000 < u64::from(self.per_million)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_over_a_whole_period() {
        for (numerator, denominator, expected) in [(0, 100, 0), (50, 100, 500_000), (1, 10_000, 100), (7, 5, 1_000_000)]
        {
            let percent = FractionalPercent::new(numerator, denominator);
            let hits = (0..1_000_000u64).filter(|&random| percent.hits(random)).count();
            assert_eq!(hits, expected);
        }
        assert_eq!(FractionalPercent::from_percent(12.5).per_million(), 125_000);
    }
}
