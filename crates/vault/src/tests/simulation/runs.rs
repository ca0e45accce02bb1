//! Runs many random schedules in parts. Each part is a separate test, so that parts run in parallel.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// How many schedules of a kind are simulated, in all parts together.
pub(super) struct Cases {
    /// In `tests/run`.
    pub(super) usual: u32,
    /// In `tests/run --soak`.
    pub(super) soak: u32,
    /// The number of parts.
    pub(super) parts: u32,
}

impl Cases {
    /// Checks the cases of one part of a property; the first part has number 0.
    ///
    /// # Panics
    /// With the smallest case that fails.
    pub(super) fn hold<S: Strategy>(
        &self,
        part: u32,
        strategy: &S,
        property: impl Fn(S::Value) -> Result<(), TestCaseError>,
    ) {
        assert!(part < self.parts, "part {part} of {}", self.parts);
        let cases = self.count().div_ceil(self.parts);
        let mut config = Config { cases, ..Config::default() };
        // Each part has other cases.
        if let RngSeed::Fixed(seed) = config.rng_seed {
            config.rng_seed = RngSeed::Fixed(seed.wrapping_add(part.into()));
        }
        TestRunner::new(config).run(strategy, property).unwrap();
    }

    /// The number for this run; or as much of the usual one as `KEYWARD_TEST_SCALE` says.
    fn count(&self) -> u32 {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let scale: Option<f64> = set("KEYWARD_TEST_SCALE").and_then(|scale| scale.parse().ok());
        match (scale, set("KEYWARD_TEST_SOAK")) {
            (Some(scale), _) => (f64::from(self.usual) * scale) as u32,
            (None, Some(_)) => self.soak,
            (None, None) => self.usual,
        }
    }
}

/// The tests of all parts but the first, and the number of parts.
macro_rules! other_parts {
    ($check:ident: $($name:ident = $number:literal),+ $(,)?) => {
        const PARTS: u32 = 1 + [$($number),+].len() as u32;

        $(
            #[test]
            fn $name() {
                $check($number);
            }
        )+
    };
}

pub(super) use other_parts;
