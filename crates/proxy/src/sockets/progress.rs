//! [`stalled`] resolves when byte counts stop changing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often the counts are compared within `idle`.
const CHECKS: u32 = 8;

/// Resolves when no count has changed for `idle`, late by at most an eighth of it.
pub async fn stalled(counts: &[&AtomicU64], idle: Duration) {
    let sum = || counts.iter().map(|count| count.load(Relaxed)).fold(0, u64::wrapping_add);
    let (mut before, mut unchanged) = (sum(), 0);
    while unchanged < CHECKS {
        tokio::time::sleep(idle / CHECKS).await;
        let now = sum();
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, MissedTickBehavior, interval};

    use super::*;
    use keyward_base::limits::Limits;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn bytes_that_move_at_the_beginning_do_not_double_the_idle_timeout() {
        let (moved, begun) = (AtomicU64::new(0), Instant::now());
        let counts = [&moved];
        tokio::join!(stalled(&counts, HOUR), async {
            moved.fetch_add(4, Relaxed);
        });
        assert!(begun.elapsed() > HOUR && begun.elapsed() < HOUR * 5 / 4, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_now_and_then_keeps_a_tunnel_for_days() {
        let (moved, idle) = (AtomicU64::new(0), Limits::default().tunnel_idle_timeout);
        let (begun, counts) = (Instant::now(), [&moved]);
        let pings = async {
            let mut ping = interval(3 * HOUR);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..20 {
                ping.tick().await;
                moved.fetch_add(2, Relaxed);
            }
        };
        tokio::select! {
            () = stalled(&counts, idle) => panic!("idle after {:?}", begun.elapsed()),
            () = pings => assert!(begun.elapsed() >= 57 * HOUR),
        }
        stalled(&counts, idle).await;
        assert!(begun.elapsed() <= 57 * HOUR + 2 * idle);
    }
}
