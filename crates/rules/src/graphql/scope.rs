//! [`OperationScope`]: operations of an action, by kind and root field.

use super::{OperationKind, RootField};

/// Operations that belong to an action.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OperationScope {
    /// The kinds; at least one.
    pub kinds: Vec<OperationKind>,
    /// The root fields; empty means all.
    pub fields: Vec<FieldPattern>,
    /// Root fields that do not belong to it.
    pub without_fields: Vec<FieldPattern>,
}

/// The name of a root field, or its beginning or end: `issue*`, `*Delete`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldPattern(Box<str>);

impl OperationScope {
    /// Whether an operation that begins at this field belongs to it.
    pub fn covers(&self, field: &RootField) -> bool {
        self.is_open_to(field) && (self.fields.is_empty() || is_in(&self.fields, field))
    }

    /// Whether an operation that begins at this field needs no more than what belongs to it: `__typename` reads only the
    /// name of the root type.
    pub fn suffices(&self, field: &RootField) -> bool {
        self.covers(field) || &*field.name == "__typename" && self.is_open_to(field)
    }

    fn is_open_to(&self, field: &RootField) -> bool {
        self.kinds.contains(&field.kind) && !is_in(&self.without_fields, field)
    }
}

fn is_in(patterns: &[FieldPattern], field: &RootField) -> bool {
    patterns.iter().any(|pattern| pattern.matches(&field.name))
}

impl FieldPattern {
    /// Parses a name, in which one `*` may stand at the beginning or at the end. `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && (text.starts_with('*') || !name.starts_with(|c: char| c.is_ascii_digit()));
        is_name.then(|| Self(text.into()))
    }

    fn matches(&self, name: &str) -> bool {
        match (self.0.strip_prefix('*'), self.0.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (None, Some(beginning)) => name.starts_with(beginning),
            (None, None) => name == &*self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<FieldPattern> {
        texts.iter().map(|text| FieldPattern::parse(text).expect(text)).collect()
    }

    #[test]
    fn invalid_field_patterns_are_refused() {
        for text in ["", "*", "**", "*a*", "a*b", "a b", "1a", "a-b", "ä", "a.b"] {
            assert_eq!(FieldPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fields_of_another_kind_or_name_are_outside_the_scope() {
        let scope = OperationScope {
            kinds: vec![OperationKind::Mutation],
            fields: patterns(&["issueCreate", "comment*", "*Archive"]),
            without_fields: patterns(&["commentDelete"]),
        };
        for (kind, name, expected) in [
            (OperationKind::Mutation, "issueCreate", true),
            (OperationKind::Mutation, "commentUpdate", true),
            (OperationKind::Mutation, "teamArchive", true),
            (OperationKind::Mutation, "__typename", false),
            (OperationKind::Mutation, "issueCreates", false),
            (OperationKind::Mutation, "IssueCreate", false),
            (OperationKind::Mutation, "acommentUpdate", false),
            (OperationKind::Mutation, "commentDelete", false),
            (OperationKind::Mutation, "__schema", false),
            (OperationKind::Query, "issueCreate", false),
            (OperationKind::Query, "__typename", false),
        ] {
            let found = scope.covers(&RootField { kind, name: name.into() });
            assert_eq!(found, expected, "{kind:?} {name}");
        }
    }

    #[test]
    fn the_name_of_the_root_type_needs_only_the_kind() {
        let scope = OperationScope {
            kinds: vec![OperationKind::Mutation],
            fields: patterns(&["issueCreate"]),
            without_fields: Vec::new(),
        };
        let typename = RootField { kind: OperationKind::Mutation, name: "__typename".into() };
        let without = OperationScope { without_fields: patterns(&["__*"]), ..scope.clone() };
        assert!(!without.suffices(&typename));
        for (kind, name, expected) in [
            (OperationKind::Mutation, "__typename", true),
            (OperationKind::Mutation, "issueCreate", true),
            (OperationKind::Mutation, "__schema", false),
            (OperationKind::Mutation, "issueDelete", false),
            (OperationKind::Query, "__typename", false),
        ] {
            let found = scope.suffices(&RootField { kind, name: name.into() });
            assert_eq!(found, expected, "{kind:?} {name}");
        }
    }
}
