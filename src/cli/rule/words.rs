//! Rules for people: a table that fits a terminal, one rule in full, one in a sentence, and its place in the order.

use unicode_width::UnicodeWidthStr;

use crate::cli::terminal::table::{Table, TableCell, TableLayout, cut, fields, moment};
use keyward_model::{ManagedBy, RuleShown, RuleSpec};
use keyward_rules::policy::explain::ActionKind;

/// Blanks between two columns of a table.
const GAP: usize = 2;

/// The most that a table shows of a name.
const NAME_COLUMNS_MAX: usize = 20;

/// What agents get of a narrow table, at least, if they need it.
const AGENTS_COLUMNS: usize = 14;

/// The name of a rule in a label, which says where it is written.
pub(super) fn written_name(label: &str) -> &str {
    match label.split_once(':') {
        Some(("file", name)) if name.contains(':') => "(no name)",
        Some(("file" | "store", name)) => name,
        Some(("binding", _)) => "binding",
        _ => label,
    }
}

// === the table ===

/// The text of a row, before it is cut.
struct RuleRow {
    number: String,
    name: String,
    does: RuleSummary,
    agents: ListedNames,
    from: String,
}

/// What a rule does: on one line, or on two where one is too narrow.
struct RuleSummary {
    /// Action, connection, methods, named actions and branches.
    action: String,
    /// The first host with the first path.
    requests: String,
    /// How many hosts and paths more: ` +2`.
    more: String,
}

/// Several names, of which the first one and the number of the others is shown where all do not fit.
struct ListedNames(Vec<String>);

/// All rules. On a terminal a row may take two lines.
pub(super) fn table(rules: &[RuleShown], layout: &TableLayout) -> String {
    let Some(columns) = layout.width else { return whole_table(rules, layout) };
    let rows: Vec<_> = rules.iter().map(RuleRow::of).collect();
    let widest = |of: fn(&RuleRow) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let name = widest(|row| row.name.width()).clamp("RULE".len(), NAME_COLUMNS_MAX);
    let from = widest(|row| row.from.width());
    let rest = columns.saturating_sub(widest(|row| row.number.width()) + name + from + 4 * GAP);
    let does = widest(|row| row.does.width());
    let agents = AGENTS_COLUMNS.max(rest.saturating_sub(does));
    let agents = widest(|row| row.agents.whole().width()).clamp("FOR".len(), agents);
    let does = rest.saturating_sub(agents);
    let mut table = Table::new(["#", "RULE", "WHAT IT DOES", "FOR", "FROM"]);
    for RuleRow { number, name: text, does: what, agents: all, from } in rows {
        let (first, second) = what.within(does);
        table.row(
            [number, cut(&text, name).into_owned(), first, all.within(agents), from]
                .map(TableCell::from),
        );
        if let Some(second) = second {
            table.row(["", "", &second, "", ""].map(TableCell::from));
        }
    }
    table.render("no rules", layout)
}

impl RuleRow {
    fn of(rule: &RuleShown) -> Self {
        let agents = rule.spec.agents.clone().unwrap_or_else(|| vec!["all".to_owned()]);
        Self {
            number: rule.status.number.to_string(),
            name: rule.spec.name.clone().unwrap_or_default(),
            does: RuleSummary::of(rule),
            agents: ListedNames(agents),
            from: source(rule),
        }
    }
}

impl RuleSummary {
    fn of(rule: &RuleShown) -> Self {
        let spec = &rule.spec;
        let mut action = vec![spec.action.unwrap_or(ActionKind::Inject).as_str().to_owned()];
        action.extend(spec.use_connection.clone());
        if !spec.methods.is_empty() {
            action.push(spec.methods.join(","));
        }
        action.extend(only(spec));
        let path = spec.paths.first().map(String::as_str).unwrap_or_default();
        let requests = match spec.hosts.first() {
            Some(host) => format!("{host}{path}"),
            None if rule.id == "default" => "all other requests".to_owned(),
            None if path.is_empty() => "all hosts".to_owned(),
            None => format!("*{path}"),
        };
        let more = spec.hosts.len().saturating_sub(1) + spec.paths.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" +{more}") };
        Self { action: action.join(" "), requests, more }
    }

    fn width(&self) -> usize {
        self.action.width() + 1 + self.requests.width() + self.more.width()
    }

    /// One line, or two.
    fn within(self, columns: usize) -> (String, Option<String>) {
        if self.width() <= columns {
            let Self { action, requests, more } = self;
            return (format!("{action} {requests}{more}"), None);
        }
        let requests = cut(&self.requests, columns.saturating_sub(self.more.width()));
        (cut(&self.action, columns).into_owned(), Some(format!("{requests}{}", self.more)))
    }
}

impl ListedNames {
    fn whole(&self) -> String {
        self.0.join(", ")
    }

    fn within(self, columns: usize) -> String {
        let whole = self.whole();
        match self.0.split_first() {
            Some((first, others)) if whole.width() > columns && !others.is_empty() => {
                let more = format!(" +{}", others.len());
                format!("{}{more}", cut(first, columns.saturating_sub(more.width())))
            }
            _ => cut(&whole, columns).into_owned(),
        }
    }
}

/// `file:12`, `stored`, `binding` or `default`.
fn source(rule: &RuleShown) -> String {
    let line = rule.status.place.as_deref().and_then(|place| place.rsplit(':').next());
    match (rule.managed_by, line) {
        (Some(ManagedBy::File), Some(line)) => format!("file:{line}"),
        (Some(ManagedBy::File), None) => "file".to_owned(),
        (Some(ManagedBy::Store), _) => "stored".to_owned(),
        (None, _) => written_name(&rule.id).to_owned(),
    }
}

/// The named actions and branches that a rule is only for.
fn only(spec: &RuleSpec) -> Vec<String> {
    let branches = spec.branches.iter().map(|branch| format!("to {branch}"));
    spec.actions.iter().cloned().chain(branches).collect()
}

/// All rules with all that is known of them.
fn whole_table(rules: &[RuleShown], layout: &TableLayout) -> String {
    let mut table = Table::new([
        "#",
        "RULE",
        "ID",
        "ACTION",
        "AGENTS",
        "HOSTS",
        "METHODS",
        "PATHS",
        "ONLY",
        "CONNECTION",
        "FROM",
    ]);
    let or_all = |texts: &[String]| match texts {
        [] => TableCell::from("all"),
        texts => texts.into(),
    };
    for rule in rules {
        let RuleShown { id, spec, status, .. } = rule;
        table.row([
            status.number.to_string().into(),
            spec.name.clone().unwrap_or_default().into(),
            id.clone().into(),
            spec.action.map(ActionKind::as_str).unwrap_or_default().into(),
            or_all(spec.agents.as_deref().unwrap_or_default()),
            or_all(&spec.hosts),
            or_all(&spec.methods),
            or_all(&spec.paths),
            only(spec).as_slice().into(),
            spec.use_connection.clone().unwrap_or_default().into(),
            status.place.clone().unwrap_or_else(|| source(rule)).into(),
        ]);
    }
    table.render("no rules", layout)
}

// === one rule ===

/// One rule, a line for each member.
pub(super) fn details(rule: &RuleShown) -> String {
    let RuleShown { spec, status, .. } = rule;
    let all = |texts: &[String]| match texts {
        [] => "all".to_owned(),
        texts => texts.join(", "),
    };
    let plaintext = if spec.allow_plaintext { "allowed to private addresses" } else { "" };
    let mut text = format!("{}\n\n", capital(&sentence(rule)));
    text += &fields(&[
        ("name", spec.name.clone().unwrap_or_default()),
        ("id", rule.id.clone()),
        ("number", status.number.to_string()),
        ("action", spec.action.map(ActionKind::as_str).unwrap_or_default().to_owned()),
        ("connection", spec.use_connection.clone().unwrap_or_default()),
        ("agents", all(spec.agents.as_deref().unwrap_or_default())),
        ("hosts", all(&spec.hosts)),
        ("methods", all(&spec.methods)),
        ("paths", all(&spec.paths)),
        ("actions", spec.actions.join(", ")),
        ("branches", spec.branches.join(", ")),
        ("deletions", if spec.delete_branches { "of these branches" } else { "" }.to_owned()),
        ("cleartext", plaintext.to_owned()),
        (
            "own authorization",
            spec.own_authorization.map(|it| it.as_str().to_owned()).unwrap_or_default(),
        ),
        ("from", status.place.clone().unwrap_or_else(|| source(rule))),
        ("created", rule.created.map(moment).unwrap_or_default()),
        ("changed", rule.updated.map(moment).unwrap_or_default()),
    ]);
    if let Some(Warning { text: warning, hint }) = shadow(rule) {
        text += &format!("\n{}\nhint: {hint}\n", capital(&warning));
    }
    text
}

/// `rule no-deletes denies DELETE requests of agent ci to api.github.com`.
pub(super) fn sentence(rule: &RuleShown) -> String {
    let RuleSpec {
        name,
        agents,
        hosts,
        methods,
        paths,
        actions,
        branches,
        action,
        use_connection,
        ..
    } = &rule.spec;
    let subject = match name {
        Some(name) => format!("rule {name}"),
        None => match written_name(&rule.id) {
            "(no name)" => "this rule".to_owned(),
            other => format!("the {other}"),
        },
    };
    let kinds = if methods.is_empty() { "all".to_owned() } else { joined(methods) };
    let by = match agents.as_deref() {
        None | Some([]) => "all agents".to_owned(),
        Some([agent]) => format!("agent {agent}"),
        Some(agents) => format!("agents {}", joined(agents)),
    };
    let to = if hosts.is_empty() { "all hosts".to_owned() } else { joined(hosts) };
    let paths = if paths.is_empty() { String::new() } else { format!(" at {}", joined(paths)) };
    let actions = match actions.is_empty() {
        true => String::new(),
        false => format!(", where they belong to {}", joined(actions)),
    };
    let branches = match (branches.is_empty(), action) {
        (true, _) => String::new(),
        (false, Some(ActionKind::Deny)) => format!(", where they push to {}", joined(branches)),
        (false, _) => format!(", with pushes to {} only", joined(branches)),
    };
    let requests = format!("{kinds} requests of {by} to {to}{paths}{actions}{branches}");
    match (action.unwrap_or(ActionKind::Inject), use_connection) {
        (ActionKind::Deny, _) => format!("{subject} denies {requests}"),
        (ActionKind::Pass, _) => format!("{subject} passes {requests} without a credential"),
        (ActionKind::Tunnel, _) => format!("{subject} tunnels {requests} without looking inside"),
        (ActionKind::Inject, Some(connection)) => {
            format!("{subject} injects connection {connection} into {requests}")
        }
        (ActionKind::Inject, None) => {
            format!("{subject} injects the connection that the agent is bound to into {requests}")
        }
    }
}

/// Its place in the order: `it is rule 2, after first and before docs`.
pub(super) fn position(rule: &RuleShown, all: &[RuleShown]) -> String {
    let at = rule.status.number;
    let called = |number: usize| {
        let found = all.iter().find(|other| other.status.number == number)?;
        found.managed_by?;
        let from = if found.managed_by == Some(ManagedBy::File) { " (file)" } else { "" };
        let name = found.spec.name.as_deref().unwrap_or("a rule without a name");
        Some(format!("{name}{from}"))
    };
    match (at.checked_sub(1).and_then(called), called(at + 1)) {
        (None, None) => "it is the only rule; bindings and the default follow".to_owned(),
        (None, Some(next)) => format!("it is rule {at}, before {next}"),
        (Some(last), Some(next)) => format!("it is rule {at}, after {last} and before {next}"),
        (Some(last), None) => {
            format!("it is rule {at}, after {last}; bindings and the default follow")
        }
    }
}

/// A warning that an earlier rule shadows a rule, with a hint.
pub(super) struct Warning {
    pub(super) text: String,
    pub(super) hint: String,
}

/// The warning, if an earlier rule decides all requests of the rule.
pub(super) fn shadow(rule: &RuleShown) -> Option<Warning> {
    let label = rule.status.shadowed_by.as_deref()?;
    let (own, other) = (rule.spec.name.as_deref().unwrap_or("this rule"), written_name(label));
    let text = format!(
        "rule {own} has no effect: rule {other} comes before it and decides all its requests"
    );
    let hint = match label.starts_with("store:") {
        true if rule.managed_by == Some(ManagedBy::Store) => {
            format!("keyward rule move {own} --before {other}")
        }
        _ => "rules of the configuration file come first: change the one there".to_owned(),
    };
    Some(Warning { text, hint })
}

/// `a`, `a and b`, `a, b and 2 more`.
fn joined(texts: &[String]) -> String {
    match texts {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, two, more @ ..] => format!("{one}, {two} and {} more", more.len()),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> RuleShown {
        let mut whole = serde_json::json!({
            "id": "default", "agents": null, "hosts": [], "methods": [], "paths": [],
            "action": "deny", "use": null, "allow_plaintext": false, "place": null, "number": 1,
        });
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn rules() -> Vec<RuleShown> {
        let long = "a-name-of-20-letters";
        vec![
            rule(serde_json::json!({
                "id": "file:no-deletes", "name": "no-deletes", "hosts": ["api.github.com"],
                "methods": ["DELETE"], "place": "/etc/keyward/keyward.yaml:12",
                "managed_by": "file",
            })),
            rule(serde_json::json!({
                "id": "file:/etc/keyward.yaml:20: rules[1]", "agents": ["ci", "dev"], "number": 2,
                "hosts": ["*.a.test", "b.test:8443"], "paths": ["/v1/**"], "action": "inject",
                "use": "work", "place": "/etc/keyward.yaml:20", "managed_by": "file",
            })),
            rule(serde_json::json!({
                "id": "rul_00000000000000000000", "name": long, "number": 3,
                "agents": [long, "another-of-20-letter"], "action": "inject", "use": long,
                "hosts": ["a-long-host-name.example.com", "b", "c", "d", "e", "f"],
                "methods": ["GET", "HEAD"], "paths": ["/repos/**"], "managed_by": "store",
            })),
            rule(serde_json::json!({
                "id": "binding:con_1", "agents": [long], "hosts": ["api.github.com"],
                "action": "inject", "use": "work", "number": 4,
            })),
            rule(serde_json::json!({ "number": 5 })),
        ]
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [80, 100, 132] {
            let text =
                table(&rules(), &TableLayout { width: Some(columns), ..TableLayout::narrow() });
            assert!(text.lines().all(|line| line.width() <= columns), "{columns}:\n{text}");
        }
    }

    #[test]
    fn rules_are_listed_in_order_of_decision_with_their_origin() {
        insta::assert_snapshot!(table(&rules(), &TableLayout::narrow()));
    }

    #[test]
    fn a_wide_list_has_all_columns() {
        insta::assert_snapshot!(table(&rules(), &TableLayout::FULL));
    }

    #[test]
    fn no_restricted_rule_is_listed_like_one_for_all_requests() {
        let list = |more: serde_json::Value| {
            let listed = [rule(more)];
            [TableLayout::narrow(), TableLayout::FULL].map(|layout| table(&listed, &layout))
        };
        let all = list(serde_json::json!({ "id": "store:a" }));
        for (member, value) in [
            ("hosts", "a.test"),
            ("methods", "GET"),
            ("paths", "/v1/**"),
            ("actions", "github:push"),
            ("branches", "main"),
        ] {
            let restricted = list(serde_json::json!({ "id": "store:a", member: [value] }));
            for (restricted, all) in restricted.iter().zip(&all) {
                assert!(restricted.contains(value), "{restricted}");
                assert_ne!(restricted, all);
            }
        }
    }

    #[test]
    fn a_rule_is_described_by_one_sentence() {
        let all: Vec<_> = rules().iter().map(sentence).collect();
        insta::assert_snapshot!(all.join("\n"));
        let pass = serde_json::json!({ "name": "a", "action": "pass", "hosts": ["x"] });
        assert_eq!(
            sentence(&rule(pass)),
            "rule a passes all requests of all agents to x without a credential"
        );
    }

    #[test]
    fn the_position_of_a_rule_is_described_by_its_neighbours() {
        let all = rules();
        let places: Vec<_> = all[..3].iter().map(|rule| position(rule, &all)).collect();
        insta::assert_snapshot!(places.join("\n"));
    }

    #[test]
    fn a_shadowed_rule_gets_a_remedy_that_fits_the_shadowing_rule() {
        let shadowed = |by: &str| {
            let own = serde_json::json!({ "name": "a", "managed_by": "store", "shadowed_by": by });
            shadow(&rule(own)).unwrap().hint
        };
        assert_eq!(shadowed("store:b"), "keyward rule move a --before b");
        assert!(shadowed("file:b").contains("configuration file"));
        assert!(shadow(&rule(serde_json::json!({}))).is_none());
    }
}
