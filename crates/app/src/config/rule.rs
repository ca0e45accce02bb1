//! `rules:`: the text of each rule, in order. The rulebook knows the store, so it resolves the names and finds
//! contradictions between rules.

use serde_yaml::Value;

use super::declared::{org_of, with_org};
use super::reading::ConfigReading;
use super::reading::{self, EarlierNames};
use keyward_base::keys::{Key, Section};
use keyward_model::RuleSpec;
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::provider::decode::did_you_mean;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::rulebook::PlacedRule;

/// As messages list them.
const ACTIONS: [ActionKind; 4] =
    [ActionKind::Inject, ActionKind::Deny, ActionKind::Pass, ActionKind::Tunnel];

/// The keys that limit a rule to what they list.
const LISTS: [&str; 6] = ["agents", "hosts", "methods", "paths", "actions", "branches"];

/// The keys of an item.
pub(super) struct RuleItem;

impl Section for RuleItem {
    fn keys() -> Vec<Key> {
        with_org(RuleSpec::keys())
    }
}

/// Reads `rules:`, in order.
pub(super) fn rules(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Vec<PlacedRule> {
    let (mut found, mut earlier) = (Vec::new(), EarlierNames::default());
    for (index, item) in reading.items(value, "rules").iter().enumerate() {
        let path = item_of("rules", index);
        let mut item = item.clone();
        let org = item.as_mapping_mut().and_then(|keys| keys.remove("org"));
        known_action(&mut item, &path, reading);
        let Some(spec) = reading.section::<RuleSpec>(Some(&item), &path) else { continue };
        let org = org_of(org.as_ref(), &path, reading);
        if let Some(name) = &spec.name {
            earlier.add(&org, name, &path, reading);
            reading::check_not_token(name, &path, reading);
        }
        reading.no_empty_lists(&item, &LISTS, &path);
        for refusal in spec.refusals() {
            let at = match &*refusal.field {
                "" => path.clone(),
                field => key_of(&path, field),
            };
            reading.problems.add(&at, refusal.rule, refusal.hint.unwrap_or_default());
        }
        found.push(PlacedRule { org, spec, place: reading.place(&path) });
    }
    found
}

/// An unknown action is reported here and then read as `inject`, so that the other problems of the rule are found.
fn known_action(item: &mut Value, path: &str, reading: &mut ConfigReading<'_>) {
    let Some(Value::String(action)) = item.get_mut("action") else { return };
    let known = ACTIONS.map(ActionKind::as_str);
    if known.contains(&&**action) {
        return;
    }
    let remedy =
        did_you_mean(action, known).unwrap_or_else(|| format!("write {}", known.join(", ")));
    reading.problems.add(&key_of(path, "action"), format!("there is no action `{action}`"), remedy);
    "inject".clone_into(action);
}
