//! The choice of a binding: by placeholders, by the `Keyward-Connection` field, or else the only one that fits or the
//! agent's default.

use super::decide::Evaluation;
use super::matching::matches_paths;
use super::rule::Account;
use super::steps::Steps;
use super::{CompiledBinding, Reason};
use crate::actions::ScopeShare;
use crate::inject::placeholder::PlaceholderCore;
use keyward_base::pattern::HostPattern;

/// How many characters of an unknown name a response quotes.
const QUOTED_CHARS_MAX: usize = 64;

/// The bindings that fit a request equally well.
#[derive(Default)]
struct Fitting<'a> {
    /// If one fits: that one. It needs no list.
    only: Option<&'a CompiledBinding>,
    /// If several fit: all of them, in the agent's order. Its default is the first that may be one.
    several: Vec<&'a CompiledBinding>,
    /// One that a rule replaces.
    narrowed: Option<&'a CompiledBinding>,
}

impl<'a> Evaluation<'a> {
    /// The binding that placeholders and field select, if they are present; they must agree.
    pub(super) fn selected(&self) -> Result<Option<&'a CompiledBinding>, Reason> {
        let mut selected: Option<&CompiledBinding> = None;
        for core in self.asked.placeholders {
            let binding = self.held.and_then(|held| held.by_core(core));
            let binding = binding.ok_or_else(|| self.removed(core).unwrap_or(NOT_BOUND))?;
            if !self.owns(binding)? {
                return Err(NOT_OWNED);
            }
            if selected.is_some_and(|other| other.account.id != binding.account.id) {
                return Err(TWO_PLACEHOLDERS);
            }
            selected = Some(binding);
        }
        let Some(name) = self.asked.named else { return Ok(selected) };
        let binding = self.held.and_then(|held| held.by_name(name)).ok_or_else(|| {
            let name: String = name.chars().take(QUOTED_CHARS_MAX).collect();
            Reason::ConnectionMissing { name: name.into() }
        })?;
        match selected {
            Some(other) if other.account.id != binding.account.id => Err(FIELD_AND_PLACEHOLDER),
            _ if !self.owns(binding)? => Err(FIELD_AND_HOST),
            _ => Ok(Some(binding)),
        }
    }

    /// The placeholder is that of a connection for this host that was removed.
    fn removed(&self, core: &PlaceholderCore) -> Option<Reason> {
        let mut lost = self.held?.lost.matching(self.asked.target);
        let lost = lost.find(|lost| lost.value.may_have(core))?;
        Some(Reason::ConnectionRemoved { name: lost.value.name.clone() })
    }

    /// Checks that nothing in the request selects another connection than the rule's.
    pub(super) fn agrees_with(&self, account: &Account) -> Result<(), Reason> {
        for core in self.asked.placeholders {
            let binding = self.held.and_then(|held| held.by_core(core)).ok_or(NOT_BOUND)?;
            if !self.owns(binding)? {
                return Err(NOT_OWNED);
            }
            if binding.account.id != account.id {
                return Err(RULE_AND_PLACEHOLDER);
            }
        }
        match self.asked.named {
            Some(name) if *name != *account.name && name != account.id.as_str() => {
                Err(RULE_AND_FIELD)
            }
            _ => Ok(()),
        }
    }

    /// The binding of a request that selects none: the only one that fits, or the agent's default among them.
    pub(super) fn unselected(
        &self,
        steps: &mut impl Steps,
    ) -> Result<Option<&'a CompiledBinding>, Reason> {
        let Fitting { only, several, narrowed } = self.fitting()?;
        if several.is_empty() {
            return Ok(only.or(narrowed));
        }
        match several.iter().find(|binding| binding.by_default) {
            Some(default) => {
                steps.prefers(default, &several);
                Ok(Some(default))
            }
            None => {
                let mut names: Vec<_> = several.iter().map(|b| b.account.name.clone()).collect();
                names.sort();
                Err(Reason::ConnectionAmbiguous { names })
            }
        }
    }

    /// The most specific bindings for the host and path. Bindings that rules replace are considered only if no
    /// other is left, so that the refusal can name the rule.
    fn fitting(&self) -> Result<Fitting<'a>, Reason> {
        let Some(held) = self.held else { return Ok(Fitting::default()) };
        let (mut first, mut others, mut narrowed) = (None, Vec::new(), None);
        let mut best_rank = (0, 0);
        for entry in held.by_host.matching(self.asked.target) {
            let binding = held.numbered(entry.value);
            let Some(path) = self.path_rank(binding)? else { continue };
            if binding.account.not_taken(&self.asked).is_some() {
                continue;
            }
            if self.narrowing(binding).is_some() {
                narrowed = narrowed.or(Some(binding));
                continue;
            }
            let rank = (host_rank(&entry.pattern), path);
            if rank > best_rank {
                (first, best_rank) = (None, rank);
                others.clear();
            }
            if rank == best_rank {
                match first {
                    None => first = Some(entry.value),
                    // A binding may fit by two patterns.
                    Some(first) if first == entry.value => {}
                    Some(_) => others.push(entry.value),
                }
            }
        }
        if others.is_empty() {
            let only = first.map(|number| held.numbered(number));
            return Ok(Fitting { only, several: Vec::new(), narrowed });
        }
        others.extend(first);
        others.sort_unstable();
        others.dedup();
        let several = others.into_iter().map(|number| held.numbered(number)).collect();
        Ok(Fitting { only: None, several, narrowed })
    }

    fn owns(&self, binding: &CompiledBinding) -> Result<bool, Reason> {
        let owns_host = binding.account.owning(self.asked.target).is_some();
        Ok(owns_host && self.path_rank(binding)?.is_some())
    }

    /// How specifically the account's paths match; `None` if they do not.
    pub(super) fn path_rank(&self, binding: &CompiledBinding) -> Result<Option<usize>, Reason> {
        let paths = &binding.account.paths;
        if !matches_paths(self.asked.path, paths, ScopeShare::All, &binding.id)? {
            return Ok(None);
        }
        let meant = paths.iter().filter(|path| path.matches(self.asked.path));
        Ok(Some(meant.map(|path| 1 + path.specificity()).max().unwrap_or(0)))
    }
}

/// Rank of a host pattern: an exact host precedes wildcards, a longer suffix precedes a shorter one.
fn host_rank(pattern: &HostPattern) -> usize {
    pattern.suffix().map_or(usize::MAX, str::len)
}

const NOT_BOUND: Reason = Reason::PlaceholderForeign {
    detail: "the placeholder is unknown, or its connection is not bound to this agent",
};
const NOT_OWNED: Reason = Reason::PlaceholderForeign {
    detail: "the placeholder was sent to a host or path that its connection's provider does not \
             own",
};
const TWO_PLACEHOLDERS: Reason =
    Reason::Contradiction { detail: "the request carries placeholders of two connections" };
const FIELD_AND_PLACEHOLDER: Reason = Reason::Contradiction {
    detail: "`Keyward-Connection` and the placeholder name different connections",
};
const FIELD_AND_HOST: Reason = Reason::Contradiction {
    detail: "the provider of the connection in `Keyward-Connection` does not own this host or path",
};
const RULE_AND_PLACEHOLDER: Reason =
    Reason::Contradiction { detail: "the rule uses another connection than the placeholder's" };
const RULE_AND_FIELD: Reason = Reason::Contradiction {
    detail: "the rule uses another connection than `Keyward-Connection` names",
};
