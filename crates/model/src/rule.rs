//! Rules: what a person writes of one, in the configuration alone. What its names mean, and whether rules contradict each
//! other, is found by the rulebook, which knows the directory.

use http::Method;
use keyward_base::keys::section;
use keyward_base::pattern::{HostPattern, PathPattern, PatternError};
use keyward_rules::policy::explain::ActionKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::refusal::Refusal;

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct RuleSpec {
        /// For refusals, `explain` and audit. Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
        /// Agents that the rule is for; default: all. With `use`, the rule is itself the grant.
        #[key("list of names of agents")]
        #[serde(default)]
        pub agents: Option<Vec<String>>,
        /// Exact names, or `*.` and a suffix for one label or more, with a port when it is not 443;
        /// default: all hosts.
        #[key("list of host patterns")]
        #[serde(default)]
        pub hosts: Vec<String>,
        /// Default: all methods.
        #[key("list of methods")]
        #[serde(default)]
        pub methods: Vec<String>,
        /// `*` is one segment or a part of one, a final `**` any rest; default: all paths. If the credential
        /// is in the path, see [rules](../guides/rules.md#paths-that-contain-a-credential).
        #[key("list of path patterns")]
        #[serde(default)]
        pub paths: Vec<String>,
        /// `inject` is implied by `use`. `pass` looks inside and forwards without a credential,
        /// `tunnel` does not look inside.
        #[key(one of ["inject", "deny", "pass", "tunnel"])]
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        pub action: Option<ActionKind>,
        /// The connection that is injected. Without `agents` it only narrows what bindings allow.
        #[key("name of a connection")]
        #[serde(default, rename = "use")]
        pub use_connection: Option<String>,
        /// A credential may go over cleartext to an address of `upstream.allow_private`.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        pub allow_plaintext: bool,
    }
}

/// A rule, a binding or the default, in the order in which they decide. The members of its spec are those of the API's
/// object; only what a person wrote has a `name`, which its id says.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleShown {
    /// As audit and explain name it.
    pub id: String,
    /// What it says; its action is always there.
    #[serde(flatten)]
    pub spec: RuleSpec,
    /// Where it is written: `/etc/keyward.yaml:12`; `null` for bindings and the default.
    #[serde(default)]
    pub place: Option<String>,
}

impl RuleSpec {
    /// Everything that is wrong with it, as far as it can be judged alone. A refusal without a field is about the
    /// whole rule.
    pub fn refusals(&self) -> Vec<Refusal> {
        let name = self.name.as_deref().and_then(|name| name::plain(name).err());
        let hosts = patterns("hosts", &self.hosts, HostPattern::parse);
        let paths = patterns("paths", &self.paths, PathPattern::parse);
        let is_method = |text: &str| Method::from_bytes(text.as_bytes()).is_ok();
        let methods = self.methods.iter().enumerate().filter(|(_, text)| !is_method(text));
        let methods = methods.map(|(index, _)| {
            Refusal::new(format!("methods[{index}]"), "this is not a method")
                .hint("write GET, POST or another")
        });
        name.into_iter()
            .chain(hosts)
            .chain(paths)
            .chain(methods)
            .chain(self.contradiction())
            .collect()
    }

    /// What `action` and `use` say against each other.
    fn contradiction(&self) -> Option<Refusal> {
        match (self.action, &self.use_connection) {
            (None, None) => Some(
                Refusal::new("", "the rule says nothing")
                    .hint("add `use: CONNECTION` or `action: deny`"),
            ),
            (Some(action), Some(_)) if action != ActionKind::Inject => {
                let action = action.as_str();
                let rule = format!("`{action}` injects nothing, but `use` names a connection");
                Some(Refusal::new("action", rule).hint("leave `use` or `action` out"))
            }
            (Some(ActionKind::Tunnel), None)
                if !(self.methods.is_empty() && self.paths.is_empty()) =>
            {
                let rule = "methods and paths cannot be seen in a tunnel";
                let hint = "leave them out, or write `action: pass`";
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
        Some(Refusal::new(format!("{field}[{index}]"), error.to_string()))
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
    fn everything_that_is_wrong_is_refused_at_once() {
        for (bad, fields) in [
            (json!({}), vec![""]),
            (json!({ "hosts": ["a.test"] }), vec![""]),
            (json!({ "action": "deny", "use": "work" }), vec!["action"]),
            (json!({ "action": "tunnel", "paths": ["/x"] }), vec!["action"]),
            (json!({ "action": "tunnel", "methods": ["GET"] }), vec!["action"]),
            (json!({ "action": "deny", "methods": ["GET", "GE T"] }), vec!["methods[1]"]),
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
            json!({ "name": "no", "action": "deny", "methods": ["propfind"], "paths": ["/a/**"] }),
            json!({ "action": "tunnel", "hosts": ["a.test:8443"] }),
        ] {
            assert_eq!(refused(&good), [""; 0], "{good}");
        }
    }

    #[test]
    fn a_rule_is_shown_as_one_flat_object() {
        let text = json!({
            "id": "file:no", "agents": null, "hosts": ["a.test"], "methods": [], "paths": [],
            "action": "deny", "use": null, "allow_plaintext": false, "place": "k.yaml:3",
        });
        let shown: RuleShown = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(shown.spec.action, Some(ActionKind::Deny));
        assert_eq!(serde_json::to_value(&shown).unwrap(), text);
    }
}
