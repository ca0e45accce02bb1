//! Rules as people write them, in the configuration or through the API. The rulebook resolves their names and finds
//! contradictions between rules, because it knows the directory.
//!
//! A stored rule is a [`Resource`]. Its spec has ids of agents and connections instead of names, so that a rename does
//! not change what it means. A rule of the configuration has no record.

use jiff::Timestamp;
use keyward_base::id::StoredRuleId;
use keyward_base::keys::section;
use keyward_base::pattern::{HostPattern, PathPattern, PatternError};
use keyward_rules::branches::RefPattern;
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::provider::methods;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::refusal::Refusal;
use super::resource::{Kind, ManagedBy, Record, Resource};

/// Items of one list of a stored rule.
const ITEMS_MAX: usize = 500;

/// Names that paths of the API and messages use for something else.
const RESERVED: [&str; 4] = ["default", "explain", "order", "test"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct RuleSpec {
        /// For refusals, `explain` and audit. Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text")]
        #[option("name", "NAME", "another name", only changes)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
        /// Agents that the rule is for; default: all. With `use`, the rule is itself the grant.
        #[key("list of names of agents")]
        #[option("agent", "AGENT", "an agent that the rule is for: name or id; several times; default: all agents", clear "all-agents" "for all agents")]
        #[serde(default)]
        pub agents: Option<Vec<String>>,
        /// Exact names, or `*.` and a suffix for one label or more, with a port when it is not 443;
        /// default: all hosts. A rule that denies a host without a port denies ports 80 and 443, with and without TLS.
        #[key("list of host patterns")]
        #[option("host", "HOST", "a host; several times", clear "all-hosts" "for all hosts")]
        #[serde(default)]
        pub hosts: Vec<String>,
        /// Default: all methods.
        #[key("list of methods")]
        #[option("method", "METHOD", "a method; several times", clear "all-methods" "for all methods")]
        #[serde(default)]
        pub methods: Vec<String>,
        /// `*` is one segment or a part of one, `**` any number of them; default: all paths. A rule that denies ignores the
        /// case of letters. If the credential is in the path, see
        /// [rules](../guides/rules.md#paths-that-contain-a-credential).
        #[key("list of path patterns")]
        #[option("path", "PATH", "a path; `*` is one segment, `**` any number of them; several times", clear "all-paths" "for all paths")]
        #[serde(default)]
        pub paths: Vec<String>,
        /// Named parts of the API of the connection's provider, such as `clone`, of which a request belongs to one;
        /// default: all requests. Without `use`: `PROVIDER:ACTION`, such as `github:push`. See
        /// [named actions](../guides/rules.md#named-actions).
        #[key("list of names of actions")]
        #[option("named-action", "ACTION", "a named action: `clone`, or `github:push` without --use; several times", clear "all-actions" "for all actions")]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub actions: Vec<String>,
        /// Branches that git may push to: `agent/*`, or full names such as `refs/tags/v*`; `*` is any text without `/`, `**`
        /// any text. A rule that allows takes a push only if it changes no other reference; one that denies takes a
        /// push that changes any of these. See [branches](../guides/git-and-ssh.md#branches).
        #[key("list of patterns of branches")]
        #[option("branch", "BRANCH", "a branch of pushes by git: `agent/*`; several times", clear "all-branches" "for pushes to all branches")]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub branches: Vec<String>,
        /// The branches may be deleted too. A rule that denies takes deletions in any case.
        #[key(one of ["true", "false"], "false")]
        #[option("delete-branches", "BOOL", "the branches may be deleted too")]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub delete_branches: bool,
        /// `inject` is implied by `use`. `pass` looks inside and forwards without a credential,
        /// `tunnel` does not look inside.
        #[key(one of ["inject", "deny", "pass", "tunnel"])]
        #[option("action", "ACTION", "another action: inject, deny, pass or tunnel", only changes)]
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        pub action: Option<ActionKind>,
        /// The connection that is injected. Without `agents` it only narrows what bindings allow.
        #[key("name of a connection")]
        #[option("use", "CONNECTION", "inject this connection: name or id", clear "no-use" "name no connection")]
        #[serde(default, rename = "use")]
        pub use_connection: Option<String>,
        /// A credential may go over cleartext to an address of `upstream.allow_private`.
        #[key(one of ["true", "false"], "false")]
        #[option("allow-plaintext", "BOOL", "the credential may go over cleartext to an address of `upstream.allow_private`")]
        #[serde(default)]
        pub allow_plaintext: bool,
        /// What is done with requests that have an
        /// [authorization of their own](../guides/rules.md#requests-with-an-authorization-of-their-own), which the
        /// connection would replace. Default: what the binding says.
        #[key(one of ["refuse", "pass"])]
        #[option("own-authorization", "refuse|pass", "requests with an authorization of their own: pass them as they are, or refuse")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub own_authorization: Option<OwnAuthorization>,
    }
}

section! {
    /// The place of a stored rule among the stored ones: one member at most. A new rule is the last one by default.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RulePlace {
        /// Before this stored rule: its name or id.
        #[key("name of a stored rule")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub before: Option<String>,
        /// After this stored rule: its name or id.
        #[key("name of a stored rule")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub after: Option<String>,
        /// Before all other stored rules.
        #[key(one of ["true", "false"], "false")]
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub first: bool,
        /// After all other stored rules.
        #[key(one of ["true", "false"], "false")]
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub last: bool,
    }
}

/// What the gateway adds to a stored rule.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RuleFacts {
    /// The stored rules of an organisation decide in ascending order of their positions, and of their ids where two
    /// positions are the same. Positions have gaps, so that a rule is added or moved by one write.
    pub position: i64,
    /// Members of its row that this version does not know: conditions of a newer version. The rule refuses its requests.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

/// What is shown of a rule beside its spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleStatus {
    /// Its number in the order in which rules, bindings and the default decide; the first one has 1.
    #[serde(default)]
    pub number: usize,
    /// Where it is written: `/etc/keyward.yaml:12`; `null` for stored rules, bindings and the default.
    #[serde(default)]
    pub place: Option<String>,
    /// The label of an earlier rule that decides all requests that this one is for, so that this one has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadowed_by: Option<String>,
    /// What it most likely does not mean, such as a path with `{owner}`, which is literal. Absent in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A rule, a binding or the default, in the order in which they decide. The members of its spec are those of the API's
/// object.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleShown {
    /// `rul_…` of a stored rule; else as audit and explain name it.
    pub id: String,
    /// What it says; its action is always there.
    #[serde(flatten)]
    pub spec: RuleSpec,
    /// What is shown beside it.
    #[serde(flatten)]
    pub status: RuleStatus,
    /// Who may edit it; absent for bindings and the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<ManagedBy>,
    /// When a stored rule was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// When a stored rule was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// What `If-Match` takes: another one after each change of a stored rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl RuleShown {
    /// The label of the rule in the audit log and in explanations.
    pub fn label(&self) -> String {
        match (self.managed_by, &self.spec.name) {
            (Some(ManagedBy::Store), Some(name)) => format!("store:{name}"),
            _ => self.id.clone(),
        }
    }
}

impl Resource for Rule {
    type Id = StoredRuleId;
    type Spec = RuleSpec;
    type CreateOptions = RulePlace;
    type ChangeOptions = RulePlace;
    type Facts = RuleFacts;
    type Shown = RuleStatus;

    const KIND: Kind = Kind { one: "rule", article: "a rule", many: "rules", max: 1_000 };
    const DATED: bool = true;

    /// A stored rule always has one.
    fn name(spec: &RuleSpec) -> &str {
        spec.name.as_deref().unwrap_or_default()
    }

    fn refusals(spec: &RuleSpec) -> Vec<Refusal> {
        let mut refusals = spec.refusals();
        match &spec.name {
            None => refusals.push(Refusal::new("name", "is missing")),
            Some(name) if RESERVED.contains(&&**name) => {
                refusals.push(Refusal::new("name", "is reserved").hint("choose another name"));
            }
            Some(_) => {}
        }
        if spec.agents.as_ref().is_some_and(Vec::is_empty) {
            let hint = "name an agent, or omit `agents` for all";
            refusals.push(Refusal::new("agents", "is empty").hint(hint));
        }
        let agents = spec.agents.as_ref().map_or(0, Vec::len);
        for (field, count) in [
            ("agents", agents),
            ("hosts", spec.hosts.len()),
            ("methods", spec.methods.len()),
            ("paths", spec.paths.len()),
            ("actions", spec.actions.len()),
            ("branches", spec.branches.len()),
        ] {
            if count > ITEMS_MAX {
                let rule = format!("has more than {ITEMS_MAX} items");
                refusals.push(Refusal::new(field, rule).hint("add several rules"));
            }
        }
        refusals
    }

    fn take_unknown(facts: &mut RuleFacts, names: Vec<String>) {
        facts.unknown = names;
    }
}

impl RuleFacts {
    /// The facts of a rule at this position.
    pub fn at(position: i64) -> Self {
        Self { position, unknown: Vec::new() }
    }
}

impl RulePlace {
    /// Refuses more than one member.
    ///
    /// # Errors
    /// With the second one.
    pub fn check(&self) -> Result<(), Refusal> {
        let given = [
            ("before", self.before.is_some()),
            ("after", self.after.is_some()),
            ("first", self.first),
            ("last", self.last),
        ];
        match given.iter().filter(|(_, is_given)| *is_given).nth(1) {
            None => Ok(()),
            Some((field, _)) => {
                let rule = "contradicts another place";
                Err(Refusal::new(*field, rule).hint("give one of before, after, first and last"))
            }
        }
    }
}

impl Record<Rule> {
    /// As audit, explain and refusals name it.
    pub fn label(&self) -> String {
        format!("store:{}", self.name())
    }

    /// The ids of agents and connections that it names.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.agents.iter().flatten().chain(&self.use_connection).map(String::as_str)
    }
}

impl RuleSpec {
    /// Whether it permits the credential of this connection over cleartext at all of these hosts.
    pub fn allows_cleartext(&self, connection: &str, hosts: &HostPattern) -> bool {
        let has = |text: &String| HostPattern::parse(text).is_ok_and(|it| it.contains(hosts));
        self.allow_plaintext
            && self.use_connection.as_deref() == Some(connection)
            && (self.hosts.is_empty() || self.hosts.iter().any(has))
    }

    /// All refusals that need no other rule and no directory. A refusal without a field concerns the whole rule.
    pub fn refusals(&self) -> Vec<Refusal> {
        let name = self.name.as_deref().and_then(|name| name::plain(name).err());
        let hosts = patterns("hosts", &self.hosts, HostPattern::parse);
        let paths = patterns("paths", &self.paths, PathPattern::parse);
        name.into_iter()
            .chain(hosts)
            .chain(paths)
            .chain(self.method_refusals())
            .chain(self.unnamed_actions())
            .chain(self.branch_refusals())
            .chain(self.contradiction())
            .collect()
    }

    /// A misspelt method covers no request, so a rule that denies it would deny nothing.
    fn method_refusals(&self) -> Vec<Refusal> {
        let refused = |(index, text): (usize, &String)| {
            let field = format!("methods[{index}]");
            if !methods::is_plain(text) {
                let hint = match &**text {
                    "*" => "all methods are meant without it",
                    _ => "write GET, POST or another",
                };
                return Some(Refusal::new(field, "this is not a method").hint(hint));
            }
            let meant = methods::misspelt(text)?;
            let rule = format!("`{text}` is no usual method");
            Some(Refusal::new(field, rule).hint(format!("did you mean `{meant}`?")))
        };
        self.methods.iter().enumerate().filter_map(refused).collect()
    }

    /// Actions whose provider is not known without a connection.
    fn unnamed_actions(&self) -> Vec<Refusal> {
        if self.use_connection.is_some() {
            return Vec::new();
        }
        let unnamed = |(_, text): &(usize, &String)| !text.contains(':');
        let refused = |(index, text): (usize, &String)| {
            Refusal::new(format!("actions[{index}]"), "does not name its provider")
                .hint(format!("write `PROVIDER:{text}`, such as `github:{text}`"))
        };
        self.actions.iter().enumerate().filter(unnamed).map(refused).collect()
    }

    /// Branches are judged in pushes only. A rule that allows must name its other requests: the API of a forge changes
    /// branches too.
    fn branch_refusals(&self) -> Vec<Refusal> {
        let is_pattern = |text: &str| RefPattern::parse(text).is_some();
        let texts = self.branches.iter().enumerate().filter(|(_, text)| !is_pattern(text));
        let mut refusals: Vec<_> = texts
            .map(|(index, _)| {
                Refusal::new(format!("branches[{index}]"), "this is not the name of a branch")
                    .hint("write `main`, `agent/*` or `refs/tags/v*`")
            })
            .collect();
        let denies = self.action == Some(ActionKind::Deny);
        if !self.branches.is_empty() && !denies && self.actions.is_empty() && self.paths.is_empty()
        {
            let rule = "limits pushes only, and the rule allows all other requests";
            let hint = "name the requests: `actions: [clone, push]`";
            refusals.push(Refusal::new("branches", rule).hint(hint));
        }
        refusals
    }

    /// Refuses contradictions between `action`, `use` and the other members.
    fn contradiction(&self) -> Option<Refusal> {
        match (self.action, &self.use_connection) {
            (None, None) => Some(
                Refusal::new("", "the rule has neither `use` nor `action`")
                    .hint("add `use: CONNECTION` or `action: deny`"),
            ),
            (Some(action), Some(_)) if action != ActionKind::Inject => {
                let action = action.as_str();
                let rule = format!("`{action}` injects nothing, but `use` names a connection");
                Some(Refusal::new("action", rule).hint("omit `use` or `action`"))
            }
            (Some(ActionKind::Tunnel), None)
                if !(self.methods.is_empty()
                    && self.paths.is_empty()
                    && self.actions.is_empty()
                    && self.branches.is_empty()) =>
            {
                let rule = "methods, paths and actions cannot be seen in a tunnel";
                let hint = "omit them, or write `action: pass`";
                Some(Refusal::new("action", rule).hint(hint))
            }
            _ => None,
        }
    }
}

fn patterns<T>(
    field: &'static str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, PatternError>,
) -> Vec<Refusal> {
    let refused = |(index, text): (usize, &String)| {
        let error = parse(text).err()?;
        let refusal = Refusal::new(format!("{field}[{index}]"), error.to_string());
        Some(match text.as_str() {
            "*" | "**" => refusal.hint(format!("omit `{field}` to mean all")),
            _ => refusal,
        })
    };
    texts.iter().enumerate().filter_map(refused).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(spec: &Value) -> Vec<String> {
        let spec: RuleSpec = serde_json::from_value(spec.clone()).unwrap();
        spec.refusals().into_iter().map(|refusal| refusal.field.into_owned()).collect()
    }

    #[test]
    fn all_invalid_members_of_a_rule_are_refused_at_once() {
        for (bad, fields) in [
            (json!({}), vec![""]),
            (json!({ "hosts": ["a.test"] }), vec![""]),
            (json!({ "action": "deny", "use": "work" }), vec!["action"]),
            (json!({ "action": "tunnel", "paths": ["/x"] }), vec!["action"]),
            (json!({ "action": "tunnel", "methods": ["GET"] }), vec!["action"]),
            (json!({ "action": "tunnel", "actions": ["github:push"] }), vec!["action"]),
            (json!({ "action": "deny", "actions": ["github:push", "push"] }), vec!["actions[1]"]),
            (json!({ "action": "deny", "methods": ["GET", "GE T"] }), vec!["methods[1]"]),
            (json!({ "action": "deny", "methods": ["PURGE", "delte"] }), vec!["methods[1]"]),
            (
                json!({ "action": "deny", "methods": ["*", "a.test", "M-SEARCH", ""] }),
                vec!["methods[0]", "methods[1]", "methods[3]"],
            ),
            (json!({ "action": "deny", "branches": ["main", "a..b"] }), vec!["branches[1]"]),
            (json!({ "use": "work", "branches": ["main"] }), vec!["branches"]),
            (
                json!({ "name": "a b", "hosts": ["*.com", "a.test", "a b"], "paths": ["x"] }),
                vec!["name", "hosts[0]", "hosts[2]", "paths[0]", ""],
            ),
        ] {
            assert_eq!(refused(&bad), fields, "{bad}");
        }
        for good in [
            json!({ "use": "work" }),
            json!({ "action": "inject", "use": "work", "agents": ["ci"] }),
            json!({ "action": "inject" }),
            json!({ "use": "work", "actions": ["clone"] }),
            json!({ "action": "deny", "branches": ["main", "release/**"] }),
            json!({
                "use": "work", "actions": ["clone", "push"], "branches": ["agent/*", "refs/tags/v*"],
                "delete_branches": true,
            }),
            json!({ "name": "no", "action": "deny", "methods": ["propfind"], "paths": ["/a/**"] }),
            json!({ "action": "tunnel", "hosts": ["a.test:8443"] }),
        ] {
            assert_eq!(refused(&good), [""; 0], "{good}");
        }
    }

    #[test]
    fn a_stored_rule_with_a_reserved_name_no_agents_or_too_many_hosts_is_refused() {
        let refused = |spec: Value| {
            let spec: RuleSpec = serde_json::from_value(spec).unwrap();
            let refusals = Rule::refusals(&spec);
            refusals.into_iter().map(|refusal| refusal.field.into_owned()).collect::<Vec<_>>()
        };
        for name in RESERVED {
            assert_eq!(refused(json!({ "name": name, "action": "deny" })), ["name"]);
        }
        assert_eq!(refused(json!({ "action": "deny" })), ["name"]);
        assert_eq!(refused(json!({ "name": "rul_x", "action": "deny" })), ["name"]);
        assert_eq!(refused(json!({ "name": "a", "action": "deny", "agents": [] })), ["agents"]);
        let many = vec!["a.test"; ITEMS_MAX + 1];
        assert_eq!(refused(json!({ "name": "a", "action": "deny", "hosts": many })), ["hosts"]);
        assert_eq!(refused(json!({ "name": "a", "action": "deny", "hosts": [] })), [""; 0]);
    }

    #[test]
    fn cleartext_is_allowed_for_the_connection_and_the_hosts_of_the_rule() {
        let rule = json!({ "use": "nas", "hosts": ["nas.test:80"], "allow_plaintext": true });
        let whole = json!({ "use": "nas", "allow_plaintext": true });
        let without = json!({ "use": "nas", "hosts": ["nas.test:80"] });
        for (rule, connection, host, is_allowed) in [
            (&without, "nas", "nas.test:80", false),
            (&rule, "other", "nas.test:80", false),
            (&rule, "nas", "nas.test", false),
            (&rule, "nas", "nas.test:8080", false),
            (&rule, "nas", "nas.test:80", true),
            (&whole, "nas", "nas.test:8080", true),
        ] {
            let spec: RuleSpec = serde_json::from_value(rule.clone()).unwrap();
            let allowed = spec.allows_cleartext(connection, &HostPattern::parse(host).unwrap());
            assert_eq!(allowed, is_allowed, "{rule} {connection} {host}");
        }
    }

    #[test]
    fn a_request_with_two_places_for_a_rule_is_refused() {
        let place = |text: Value| serde_json::from_value::<RulePlace>(text).unwrap();
        for bad in [
            json!({ "first": true, "last": true }),
            json!({ "before": "a", "after": "a" }),
            json!({ "after": "a", "last": true }),
        ] {
            assert!(place(bad.clone()).check().is_err(), "{bad}");
        }
        assert_eq!(place(json!({ "first": false })), RulePlace::default());
        assert_eq!(place(json!({ "before": "a" })).check(), Ok(()));
    }

    #[test]
    fn a_rule_is_shown_as_one_flat_object() {
        let text = json!({
            "id": "file:no", "agents": null, "hosts": ["a.test"], "methods": [], "paths": [],
            "action": "deny", "use": null, "allow_plaintext": false, "place": "k.yaml:3",
            "number": 1,
        });
        let shown: RuleShown = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(shown.spec.action, Some(ActionKind::Deny));
        assert_eq!(serde_json::to_value(&shown).unwrap(), text);
    }
}
