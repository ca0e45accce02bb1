//! Many random schedules, on all cores.

use std::thread;

use keyward_base::parallel::cores;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

/// Checks so many cases of a property.
///
/// # Panics
/// With the smallest case that fails.
pub(super) fn all_hold<S: Strategy>(
    cases: u32,
    strategy: impl Fn() -> S + Sync,
    property: impl Fn(S::Value) -> Result<(), TestCaseError> + Sync,
) {
    let threads = u32::try_from(cores()).expect("not so many").min(cases).max(1);
    let (strategy, property) = (&strategy, &property);
    let run = move |number: u32| -> Result<(), TestError<S::Value>> {
        let mut config = Config { cases: cases.div_ceil(threads), ..Config::default() };
        // Other cases in each thread.
        if let RngSeed::Fixed(seed) = config.rng_seed {
            config.rng_seed = RngSeed::Fixed(seed.wrapping_add(number.into()));
        }
        TestRunner::new(config).run(&strategy(), property)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|number| scope.spawn(move || run(number).map_err(|error| error.to_string())))
            .collect();
        run(0).unwrap();
        for other in others {
            other.join().expect("no panic outside of a case").unwrap();
        }
    });
}

/// How many schedules of a test are simulated.
pub(super) struct Cases {
    /// Without optimisation: about 20 ms of CPU for one.
    pub(super) unoptimised: u32,
    /// In an optimised build.
    pub(super) optimised: u32,
    /// In `tests/run --soak`.
    pub(super) soak: u32,
}

impl Cases {
    /// The number for this build and run; or as much of the usual as `KEYWARD_TEST_SCALE` says.
    pub(super) fn count(&self) -> u32 {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let scale: Option<f64> = set("KEYWARD_TEST_SCALE").and_then(|scale| scale.parse().ok());
        let usual = if cfg!(debug_assertions) { self.unoptimised } else { self.optimised };
        match (scale, set("KEYWARD_TEST_SOAK")) {
            (Some(scale), _) => (f64::from(usual) * scale) as u32,
            (None, Some(_)) => self.soak,
            (None, None) => usual,
        }
    }
}
