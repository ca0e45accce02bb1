//! A naive interpreter of a [`PolicyInput`], written with plain loops from the description of rules.

use std::sync::Arc;

use crate::inject::placeholder::PlaceholderCore;
use crate::policy::{
    Account, AccountBinding, AccountState, DefaultAction, Permit, PolicyInput, PolicyRequest,
    Reason, Rule, RuleAction,
};
use keyward_base::agent::Agent;
use keyward_base::host::Scheme;
use keyward_base::id::{ConnectionId, RuleId};
use keyward_base::pattern::{DecodedPath, HostPattern, LetterCase, PathPattern};

/// A decision in the common form of both interpreters: rule and connection, or the code with the rule and
/// connection that it names.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Said {
    Permit { rule: String, connection: Option<ConnectionId>, plaintext: bool },
    Refuse { code: &'static str, rule: Option<String>, connection: Option<String> },
}

fn refuse(code: &'static str) -> Said {
    Said::Refuse { code, rule: None, connection: None }
}

fn refuse_by(code: &'static str, rule: &RuleId) -> Said {
    Said::Refuse { code, rule: Some(rule.to_string()), connection: None }
}

fn refuse_with(code: &'static str, connection: &str) -> Said {
    Said::Refuse { code, rule: None, connection: Some(connection.to_owned()) }
}

/// The refusal of an account that is not usable.
fn unusable(account: &Account) -> Option<Said> {
    let code = match account.state {
        AccountState::Draft(_) => "connection_missing",
        AccountState::Paused => "connection_paused",
        AccountState::Broken(_) => "connection_broken",
        AccountState::Active => return None,
    };
    Some(refuse_with(code, &account.name))
}

/// Whether the rule can do nothing but refuse.
fn only_refuses(rule: &Rule) -> bool {
    matches!(rule.action, RuleAction::Deny | RuleAction::UseMissing(_) | RuleAction::UseRefused(_))
}

/// Whether the pattern of the rule matches the path: in any case, if the rule only refuses.
fn is_under(rule: &Rule, pattern: &PathPattern, path: &DecodedPath) -> bool {
    pattern.matches(path) || only_refuses(rule) && matches_any_case(pattern, path)
}

fn matches_any_case(pattern: &PathPattern, path: &DecodedPath) -> bool {
    let pattern = pattern.to_string().to_lowercase();
    let path = path.as_str().to_lowercase();
    let path = DecodedPath::parse(&path).expect("a path in lower case");
    PathPattern::parse(&pattern).expect("a pattern in lower case").matches(&path)
}

pub(super) fn said(decided: Result<Permit, Reason>) -> Said {
    match decided {
        Ok(permit) => Said::Permit {
            rule: permit.rule().to_string(),
            connection: permit.wanted().map(|wanted| wanted.connection.clone()),
            plaintext: permit.plaintext(),
        },
        // Of several bindings that depend on the path, any may be named.
        Err(Reason::PathAmbiguous { rule }) if rule.as_str().starts_with("binding:") => {
            refuse_by("bad_target", &RuleId::new("binding:any"))
        }
        Err(reason) => Said::Refuse {
            code: reason.code().as_str(),
            rule: reason.rule().map(ToString::to_string),
            connection: reason.connection().map(ToString::to_string),
        },
    }
}

/// The naive interpreter.
pub(super) struct Naive<'a> {
    pub(super) spec: &'a PolicyInput,
    pub(super) agent: &'a Agent,
    pub(super) asked: &'a PolicyRequest<'a>,
    /// The path that rules and endpoints are matched against.
    pub(super) path: &'a DecodedPath,
}

impl Naive<'_> {
    pub(super) fn decide(&self) -> Said {
        if ["TRACE", "TRACK", "CONNECT"].contains(&&*self.asked.method.as_str().to_uppercase()) {
            return refuse("method_refused");
        }
        let mut lacking = None;
        for rule in &self.spec.rules {
            let for_me = rule.agents.as_ref().is_none_or(|them| them.contains(&self.agent.id));
            let here = rule.hosts.is_empty() || rule.hosts.iter().any(|h| self.is_at(rule, h));
            let this_way = rule.methods.is_empty() || rule.methods.contains(self.asked.method);
            if rule.org != self.agent.org || !for_me || !here || !this_way {
                continue;
            }
            let mut path_lists = vec![(&*rule.paths, self.path)];
            let refuses = matches!(rule.action, RuleAction::UseRefused(_));
            // Without hosts, it would refuse everything.
            if refuses && rule.hosts.is_empty() {
                continue;
            }
            if let RuleAction::Use(account) | RuleAction::UseRefused(account) = &rule.action {
                match account.hosts.iter().any(|host| host.matches(self.asked.target)) {
                    true => path_lists.push((&*account.paths, self.asked.path)),
                    false if refuses => {}
                    false => continue,
                }
            }
            let mut elsewhere = false;
            for (paths, given) in path_lists {
                if paths.is_empty() || elsewhere {
                    continue;
                }
                if given.ambiguous() {
                    return refuse_by("bad_target", &rule.id);
                }
                elsewhere = !paths.iter().any(|path| is_under(rule, path, given));
            }
            if elsewhere || matches!(&rule.action, RuleAction::Use(account) if self.leaves(account))
            {
                continue;
            }
            match &rule.action {
                RuleAction::Use(account) | RuleAction::UseRefused(account)
                    if rule.agents.is_none()
                        && !self.mine().any(|b| b.account.id == account.id) =>
                {
                    lacking = lacking.or(Some(account.name.clone()));
                }
                RuleAction::UseMissing(name) if rule.agents.is_none() => {
                    lacking = lacking.or(Some(name.clone()));
                }
                _ => return self.obey(rule),
            }
        }
        self.bindings(None, lacking)
    }

    fn obey(&self, rule: &Rule) -> Said {
        match &rule.action {
            RuleAction::Deny => refuse_by("denied", &rule.id),
            RuleAction::UseMissing(name) => refuse_with("connection_missing", name),
            RuleAction::UseRefused(account) => unusable(account).unwrap_or_else(|| {
                let (rule, connection) = (rule.id.to_string(), account.name.to_string());
                Said::Refuse { code: "denied", rule: Some(rule), connection: Some(connection) }
            }),
            RuleAction::Inject => self.bindings(Some(rule), None),
            RuleAction::Pass | RuleAction::Tunnel => {
                if !self.asked.placeholders.is_empty() {
                    refuse("placeholder_foreign")
                } else if self.asked.named.is_some() {
                    refuse("denied")
                } else if rule.hosts.is_empty() && !self.is_web() {
                    refuse_by("port_refused", &rule.id)
                } else {
                    let rule = rule.id.to_string();
                    Said::Permit { rule, connection: None, plaintext: false }
                }
            }
            RuleAction::Use(account) => {
                for core in self.asked.placeholders {
                    match self.owner(core) {
                        Err(said) => return said,
                        Ok(bound) if bound.account.id != account.id => return refuse("denied"),
                        Ok(_) => {}
                    }
                }
                match self.asked.named {
                    Some(name) if name != &*account.name && name != account.id.as_str() => {
                        refuse("denied")
                    }
                    _ => self.inject(account, &rule.id, rule.allow_plaintext),
                }
            }
        }
    }

    fn selects(&self) -> bool {
        !self.asked.placeholders.is_empty() || self.asked.named.is_some()
    }

    fn has_place(&self, account: &Account) -> bool {
        let mut places = account.places.iter();
        account.places.is_empty() || places.any(|it| it.matches(self.asked.target, self.asked.path))
    }

    /// Whether the request is decided as if the connection were not there.
    fn leaves(&self, account: &Account) -> bool {
        !self.selects() && !self.has_place(account)
    }

    fn mine(&self) -> impl Iterator<Item = &AccountBinding> {
        self.spec.bindings.iter().filter(|b| b.org == self.agent.org && b.agent == self.agent.id)
    }

    /// Whether the account owns host and path; an error if that is ambiguous.
    fn owns(&self, account: &Account) -> Result<bool, Said> {
        if !account.hosts.iter().any(|host| host.matches(self.asked.target)) {
            return Ok(false);
        }
        if !account.paths.is_empty() && self.asked.path.ambiguous() {
            return Err(refuse_by("bad_target", &RuleId::new("binding:any")));
        }
        Ok(account.paths.is_empty() || account.paths.iter().any(|p| p.matches(self.asked.path)))
    }

    fn owner(&self, core: &PlaceholderCore) -> Result<&AccountBinding, Said> {
        let mut owners = self.mine().filter(|b| b.placeholders.contains(core));
        let owner = owners.next().ok_or_else(|| refuse("placeholder_foreign"))?;
        match self.owns(&owner.account)? {
            true => Ok(owner),
            false => Err(refuse("placeholder_foreign")),
        }
    }

    fn selected(&self) -> Result<Option<&AccountBinding>, Said> {
        let mut all = Vec::new();
        for core in self.asked.placeholders {
            let owner = self.owner(core)?;
            all.push(owner);
            if all[0].account.id != owner.account.id {
                return Err(refuse("denied"));
            }
        }
        if let Some(name) = self.asked.named {
            let is_named =
                |b: &&AccountBinding| &*b.account.name == name || b.account.id.as_str() == name;
            let found = self.mine().find(is_named);
            let found = found.ok_or_else(|| refuse_with("connection_missing", name))?;
            if all.iter().any(|b| b.account.id != found.account.id) || !self.owns(&found.account)? {
                return Err(refuse("denied"));
            }
            all.push(found);
        }
        Ok(all.first().copied())
    }

    fn narrowing(&self, account: &Account) -> Option<&Rule> {
        self.spec.rules.iter().find(|rule| {
            rule.org == self.agent.org
                && rule.agents.as_ref().is_none_or(|them| them.contains(&self.agent.id))
                && match &rule.action {
                    RuleAction::Use(used) | RuleAction::UseRefused(used) => used.id == account.id,
                    _ => false,
                }
        })
    }

    fn fitting(&self) -> Result<Vec<&AccountBinding>, Said> {
        let (mut fit, mut narrowed) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for bound in self.mine() {
            // A connection bound twice is one choice.
            if seen.contains(&&bound.account.id) {
                continue;
            }
            seen.push(&bound.account.id);
            if self.owns(&bound.account)? && !self.leaves(&bound.account) {
                match self.narrowing(&bound.account) {
                    Some(_) => narrowed.push(bound),
                    None => fit.push(bound),
                }
            }
        }
        narrowed.sort_by_key(|b| std::cmp::Reverse(self.closeness(&b.account).0));
        let closest = fit.iter().map(|b| self.closeness(&b.account)).max();
        fit.retain(|b| Some(self.closeness(&b.account)) == closest);
        Ok(if fit.is_empty() { narrowed.into_iter().take(1).collect() } else { fit })
    }

    /// Of several, the first that requests without a selection may use.
    fn default_among<'b>(&self, fitting: Vec<&'b AccountBinding>) -> Vec<&'b AccountBinding> {
        let may_be = |bound: &&AccountBinding| {
            self.mine().any(|other| other.account.id == bound.account.id && other.by_default)
        };
        match fitting.iter().copied().find(may_be) {
            Some(default) => vec![default],
            None => fitting,
        }
    }

    fn closeness(&self, account: &Account) -> (usize, usize) {
        let hosts = account.hosts.iter().filter(|host| host.matches(self.asked.target));
        let host = hosts.map(|host| host.suffix().map_or(1000, str::len)).max();
        let paths = account.paths.iter().filter(|path| path.matches(self.asked.path));
        let path = paths.map(|path| path.specificity() + 1).max();
        (host.unwrap_or(0), path.unwrap_or(0))
    }

    fn bindings(&self, rule: Option<&Rule>, lacking: Option<Arc<str>>) -> Said {
        let fitting = match self.selected() {
            Err(said) => return said,
            Ok(Some(bound)) => vec![bound],
            Ok(None) => match self.fitting() {
                Err(said) => return said,
                Ok(fitting) => self.default_among(fitting),
            },
        };
        match (&fitting[..], rule, lacking) {
            ([bound], rule, _) => {
                let by = RuleId::new(format!("binding:{}", bound.account.id));
                match self.narrowing(&bound.account) {
                    Some(narrowing) => Said::Refuse {
                        code: "denied",
                        rule: Some(narrowing.id.to_string()),
                        connection: Some(bound.account.name.to_string()),
                    },
                    None => {
                        let plaintext = rule.is_some_and(|rule| rule.allow_plaintext);
                        self.inject(&bound.account, rule.map_or(&by, |rule| &rule.id), plaintext)
                    }
                }
            }
            ([_, ..], _, _) => refuse("connection_ambiguous"),
            ([], Some(rule), _) => refuse_by("connection_missing", &rule.id),
            ([], None, Some(name)) => refuse_with("connection_missing", &name),
            ([], None, None) => self.default(),
        }
    }

    fn default(&self) -> Said {
        // The only generated set is that of every host.
        if self.spec.allow.iter().any(|it| it.agent == self.agent.id) && self.is_web() {
            return self.oauth_endpoints(&RuleId::new("allow:web")).unwrap_or_else(|| {
                let rule = "allow:web".to_owned();
                Said::Permit { rule, connection: None, plaintext: false }
            });
        }
        if self.spec.default == DefaultAction::Deny {
            let known = self.spec.known.iter();
            let named =
                known.filter(|host| host.has_explicit_port()).any(|h| h.matches(self.asked.target));
            let meant = self.is_web() || named || self.is_bound_here() || self.has_rule_here();
            return refuse(if meant { "default_deny" } else { "port_refused" });
        }
        if let Some(said) = self.oauth_endpoints(&RuleId::new("default")) {
            return said;
        }
        match self.asked.target.port() {
            80 | 443 => Said::Permit { rule: "default".into(), connection: None, plaintext: false },
            _ => refuse_by("port_refused", &RuleId::new("default")),
        }
    }

    /// Whether the host of the rule is the target: on both usual ports with and without TLS, if the rule only refuses.
    fn is_at(&self, rule: &Rule, host: &HostPattern) -> bool {
        let target = self.asked.target;
        let any_port = host.covers(target.host()) && !host.has_explicit_port();
        host.matches(target) || only_refuses(rule) && any_port && self.is_web()
    }

    fn is_web(&self) -> bool {
        [80, 443].contains(&self.asked.target.port())
    }

    fn is_bound_here(&self) -> bool {
        let mut hosts = self.mine().flat_map(|bound| bound.account.hosts.iter());
        hosts.any(|host| host.matches(self.asked.target))
    }

    /// Whether a rule allows the agent any request to the target.
    fn has_rule_here(&self) -> bool {
        self.spec.rules.iter().any(|rule| {
            let for_me = rule.agents.as_ref().is_none_or(|them| them.contains(&self.agent.id));
            let named = rule.hosts.iter().any(|host| host.matches(self.asked.target));
            let here = rule.org == self.agent.org && for_me && (rule.hosts.is_empty() || named);
            here && match &rule.action {
                RuleAction::Deny | RuleAction::UseMissing(_) | RuleAction::UseRefused(_) => false,
                RuleAction::Pass | RuleAction::Tunnel => named || self.is_web(),
                RuleAction::Inject => self.is_bound_here(),
                RuleAction::Use(account) => {
                    let owns = account.hosts.iter().any(|host| host.matches(self.asked.target));
                    let mine = self.mine().any(|bound| bound.account.id == account.id);
                    owns && (rule.agents.is_some() || mine)
                }
            }
        })
    }

    fn oauth_endpoints(&self, rule: &RuleId) -> Option<Said> {
        let any = RuleId::new("binding:any");
        let rule = if rule.as_str().starts_with("binding:") { &any } else { rule };
        let mut here = (self.spec.oauth_endpoints.iter())
            .filter(|(_, host, _)| host.matches(self.asked.target))
            .filter(|(_, _, path)| path.may_match(self.path, LetterCase::Ignored));
        if self.path.ambiguous() {
            return here.next().map(|_| refuse_by("bad_target", rule));
        }
        here.any(|(_, _, path)| matches_any_case(path, self.path))
            .then(|| refuse("token_endpoint_refused"))
    }

    fn inject(&self, account: &Account, rule: &RuleId, plaintext: bool) -> Said {
        if let Some(said) = self.oauth_endpoints(rule) {
            return said;
        }
        if self.asked.target.scheme() == Scheme::Http && !plaintext {
            return refuse_with("plaintext_refused", &account.name);
        }
        unusable(account).unwrap_or_else(|| {
            if !self.has_place(account) {
                return refuse_with("bad_request", &account.name);
            }
            let (rule, connection) = (rule.to_string(), Some(account.id.clone()));
            Said::Permit { rule, connection, plaintext }
        })
    }
}
