//! Positions of stored rules. Pure.
//!
//! A position is a number with gaps between neighbours, so that a rule is added or moved by one write of its own row.
//! A new order of many rules is written from its front: at each moment in between, and after a crash, the rules that
//! were written come first, in the new order, and the others follow in the old one. The first rule that matches a request
//! is then that of the new order or that of the old one, never a third.

/// The gap beside a new rule. At least 32 rules fit into it, even if each is placed beside the last one.
const GAP: i64 = 1 << 32;

/// A position between two neighbours, each `None` at the end of the order; `None` if there is no room.
pub(super) fn between(before: Option<i64>, after: Option<i64>) -> Option<i64> {
    match (before, after) {
        (None, None) => Some(0),
        (Some(before), None) => before.checked_add(GAP),
        (None, Some(after)) => after.checked_sub(GAP),
        (Some(before), Some(after)) => {
            let middle = before.midpoint(after);
            (before < middle && middle < after).then_some(middle)
        }
    }
}

/// Ascending positions for `count` rules, before all of `positions`.
pub(super) fn in_front(count: usize, positions: impl Iterator<Item = i64>) -> Vec<i64> {
    let lowest = positions.min().unwrap_or(0);
    let steps = (1..=count).rev().filter_map(|step| i64::try_from(step).ok());
    steps.map(|step| lowest.saturating_sub(GAP.saturating_mul(step))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_position_is_strictly_between_its_neighbours_or_absent() {
        assert_eq!(between(Some(4), Some(5)), None);
        assert_eq!(between(Some(4), Some(4)), None);
        assert_eq!(between(Some(5), Some(4)), None);
        assert_eq!(between(Some(i64::MAX), None), None);
        assert_eq!(between(None, Some(i64::MIN)), None);
        assert_eq!(between(Some(4), Some(6)), Some(5));
        assert_eq!(between(Some(-6), Some(-4)), Some(-5));
    }

    #[test]
    fn many_rules_fit_between_two_neighbours() {
        let (first, mut last) = (between(None, None).unwrap(), between(Some(0), None).unwrap());
        let mut count = 0;
        while let Some(position) = between(Some(first), Some(last)) {
            (last, count) = (position, count + 1);
        }
        assert_eq!(count, 32);
    }

    #[test]
    fn rules_are_put_in_front_in_their_order() {
        let positions = in_front(3, [7, -5].into_iter());
        assert!(positions.is_sorted() && positions[2] < -5, "{positions:?}");
        // The smallest position counts.
        let positions = in_front(2, [GAP * 8, -GAP * 8].into_iter());
        assert!(positions.is_sorted() && positions[1] < -GAP * 8, "{positions:?}");
        assert_eq!(in_front(0, [1].into_iter()), [0; 0]);
    }
}
