//! [`RuleKey`]: the cursor of the list of rules. A key names a rule by what other rules do not change, so that a page
//! stays right when rules come or go between two requests.

use super::error::ApiError;
use keyward_base::id::StoredRuleId;

/// The sections of the list, in the order in which they decide.
const OF_FILE: &str = "1";
const STORED: &str = "2";
const BINDINGS: &str = "3";
const HOST_SETS: &str = "4";
const DEFAULT: &str = "5";
const SECTIONS: [&str; 5] = [OF_FILE, STORED, BINDINGS, HOST_SETS, DEFAULT];

/// The order of the texts is that of the rules: numbers have a fixed width, and the comma between two parts sorts before
/// all characters of names and ids.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct RuleKey(String);

impl RuleKey {
    /// The key of a rule of the file, by its place among those of the organisation.
    pub(super) fn of_file(place: usize, name: Option<&str>) -> Self {
        Self(format!("{OF_FILE},{place:08},{}", name.unwrap_or_default()))
    }

    /// The key of a stored rule.
    pub(super) fn stored(position: i64, id: &StoredRuleId) -> Self {
        // A number without a sign, in the same order.
        let position = position.abs_diff(i64::MIN);
        Self(format!("{STORED},{position:016x},{id}"))
    }

    /// The key of what a binding denies, which comes before all that the agent's bindings allow.
    pub(super) fn denied(agent: &str, connection: &str) -> Self {
        Self(format!("{BINDINGS},{agent},,{connection}"))
    }

    /// The key of what a binding allows.
    pub(super) fn bound(agent: &str, connection: &str) -> Self {
        Self(format!("{BINDINGS},{agent},{connection}"))
    }

    /// The key of what a slot of a plugin allows with the connection of a binding.
    pub(super) fn in_slot(self, plugin: &str, slot: &str) -> Self {
        Self(format!("{},{plugin},{slot}", self.0))
    }

    /// The key of a part of a set of hosts. Sets and their parts are those of the program.
    pub(super) fn of_set(place: usize, part: usize) -> Self {
        Self(format!("{HOST_SETS},{place:04},{part:04}"))
    }

    /// The key of the default.
    pub(super) fn of_default() -> Self {
        Self(format!("{DEFAULT},"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The key after which a list of `all` rules goes on. The file may have changed since, so its rules are found by
    /// their name; without one, by their place.
    ///
    /// # Errors
    /// When `cursor` is not `next` of such a list.
    pub(super) fn resumed<'a>(
        cursor: String,
        mut all: impl Iterator<Item = &'a Self>,
    ) -> Result<String, ApiError> {
        let mut parts = cursor.splitn(3, ',');
        let (section, place, name) = (parts.next(), parts.next(), parts.next());
        match (section, place, name.filter(|name| !name.is_empty())) {
            (Some(OF_FILE), Some(place), Some(name)) => {
                let now = all.find(|key| key.name_in_file() == Some(name));
                // What took the place of a rule that is gone was not listed.
                Ok(now.map_or_else(|| format!("{OF_FILE},{place}"), |key| key.0.clone()))
            }
            (Some(section), Some(_), _) if SECTIONS.contains(&section) => Ok(cursor),
            _ => Err(ApiError::field("after", "is not `next` of an answer of this list")
                .hint("list from the beginning, without `after`")),
        }
    }

    /// The name of a rule of the file.
    fn name_in_file(&self) -> Option<&str> {
        let (section, rest) = self.0.split_once(',')?;
        let (_, name) = rest.split_once(',')?;
        (section == OF_FILE).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StoredRuleId {
        StoredRuleId::parse(text).unwrap()
    }

    #[test]
    fn keys_are_in_the_order_in_which_rules_decide() {
        let (a, b) = (id("rul_aaaaaaaaaaaaaaaa"), id("rul_bbbbbbbbbbbbbbbb"));
        let ordered = [
            RuleKey::of_file(9, Some("z")),
            RuleKey::of_file(10, None),
            RuleKey::stored(i64::MIN, &b),
            RuleKey::stored(-1, &b),
            RuleKey::stored(0, &a),
            RuleKey::stored(0, &b),
            RuleKey::stored(i64::MAX, &a),
            RuleKey::denied("ci", "z"),
            RuleKey::bound("ci", "a"),
            RuleKey::bound("ci", "a").in_slot("crm", "b"),
            RuleKey::bound("ci", "a").in_slot("crm-x", "a"),
            RuleKey::bound("ci", "a-b"),
            RuleKey::denied("ci-2", "a"),
            RuleKey::bound("ci.2", "a"),
            RuleKey::bound("ci~", "a"),
            RuleKey::of_set(2, 0),
            RuleKey::of_set(2, 1),
            RuleKey::of_set(10, 0),
            RuleKey::of_default(),
        ];
        assert!(ordered.is_sorted_by(|one, next| one < next), "{ordered:?}");
    }

    #[test]
    fn a_list_goes_on_after_a_rule_of_the_file_that_has_moved_or_is_gone() {
        let now = [("c", 0), ("d", 1), ("a", 2)].map(|(name, at)| RuleKey::of_file(at, Some(name)));
        let left = |cursor: &RuleKey| {
            let after = RuleKey::resumed(cursor.as_str().to_owned(), now.iter()).unwrap();
            let left = now.iter().filter(|key| key.as_str() > &*after);
            left.filter_map(RuleKey::name_in_file).collect::<String>()
        };
        assert_eq!(left(&RuleKey::of_file(2, Some("c"))), "da", "two rules before it are gone");
        assert_eq!(left(&RuleKey::of_file(0, Some("a"))), "", "it is the last one now");
        assert_eq!(left(&RuleKey::of_file(1, Some("b"))), "da", "it is gone");
        assert_eq!(left(&RuleKey::of_file(1, None)), "da", "another one is in its place");
    }

    #[test]
    fn texts_that_are_no_cursor_are_refused() {
        for bad in ["00000001", "1", "x", "", ",", "0,x", "6,", "11,x"] {
            let refused = RuleKey::resumed(bad.to_owned(), [].iter()).unwrap_err();
            assert!(matches!(refused, ApiError::Field { field, .. } if field == "after"), "{bad}");
        }
        let known = RuleKey::bound("ci", "work").0;
        assert_eq!(RuleKey::resumed(known.clone(), [].iter()), Ok(known));
    }
}
