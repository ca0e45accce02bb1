//! [`Placeholders`]: what an agent holds instead of the secret fields of one connection.

use std::collections::BTreeMap;

use keyward_rules::inject::placeholder::Placeholder;
use serde::{Deserialize, Serialize, Serializer};

/// Placeholders by secret field. A large installation has millions, nearly all with one field: a tree would take ten times
/// the memory.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "BTreeMap<String, Placeholder>")]
pub struct Placeholders(Box<[(Box<str>, Placeholder)]>);

impl Placeholders {
    pub fn get(&self, field: &str) -> Option<&Placeholder> {
        self.iter().find(|(name, _)| *name == field).map(|(_, placeholder)| placeholder)
    }

    /// Fields and placeholders, in the order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Placeholder)> {
        self.0.iter().map(|(field, placeholder)| (&**field, placeholder))
    }

    /// The placeholders, in the order of their fields.
    pub fn values(&self) -> impl Iterator<Item = &Placeholder> {
        self.iter().map(|(_, placeholder)| placeholder)
    }
}

impl From<BTreeMap<String, Placeholder>> for Placeholders {
    fn from(all: BTreeMap<String, Placeholder>) -> Self {
        Self(all.into_iter().map(|(field, placeholder)| (field.into(), placeholder)).collect())
    }
}

impl FromIterator<(String, Placeholder)> for Placeholders {
    fn from_iter<I: IntoIterator<Item = (String, Placeholder)>>(all: I) -> Self {
        BTreeMap::from_iter(all).into()
    }
}

impl<const N: usize> From<[(String, Placeholder); N]> for Placeholders {
    fn from(all: [(String, Placeholder); N]) -> Self {
        BTreeMap::from(all).into()
    }
}

impl Serialize for Placeholders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_stored_as_an_object_and_listed_in_the_order_of_fields() {
        let [one, two] = [(); 2].map(|()| Placeholder::issue("sk-", Some(40)));
        let all =
            Placeholders::from([("b".to_owned(), one.clone()), ("a".to_owned(), two.clone())]);
        let row = json!({ "b": one.as_str(), "a": two.as_str() });
        assert_eq!(serde_json::to_value(&all).unwrap(), row);
        assert_eq!(serde_json::from_value::<Placeholders>(row).unwrap(), all);
        assert_eq!(all.values().collect::<Vec<_>>(), [&two, &one]);
        assert_eq!((all.get("b"), all.get("c")), (Some(&one), None));
        assert!(serde_json::from_value::<Placeholders>(json!({ "a": "sk-1" })).is_err());
    }
}
