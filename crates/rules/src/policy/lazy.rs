//! [`LazyBindings`]: what an agent may use, compiled when the agent makes its first request. Most agents of a large
//! installation make none for a long time, and then cost neither time at the start nor memory.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bindings::CompiledBindings;
use super::rule::AgentBindings;
use keyward_base::id::{AgentId, OrgId};

/// What agents may use, as of one version of their records.
pub trait BindingSource: fmt::Debug + Send + Sync {
    /// The bindings, blocked slots and sets of hosts of an agent; empty if there is no such agent. It must be fast and must
    /// not wait: the first request of the agent calls it.
    fn bindings(&self, org: &OrgId, agent: &AgentId) -> AgentBindings;
}

/// A source of agents without bindings.
#[derive(Debug)]
pub(super) struct NoBindings;

/// The bindings of one agent, which versions of a policy share as long as the agent's inputs are the same.
#[derive(Debug, Default)]
pub(super) struct LazyBindings {
    compiled: OnceLock<Box<CompiledBindings>>,
    /// Whether a request used them since the last [`LazyBindings::is_idle`].
    used: AtomicBool,
}

impl BindingSource for NoBindings {
    fn bindings(&self, _org: &OrgId, _agent: &AgentId) -> AgentBindings {
        AgentBindings::default()
    }
}

impl LazyBindings {
    /// Bindings that are compiled already.
    pub(super) fn of(bindings: AgentBindings) -> Self {
        let compiled = OnceLock::from(Box::new(CompiledBindings::of(bindings)));
        Self { compiled, used: AtomicBool::new(true) }
    }

    /// The compiled bindings; `None` if the agent may use nothing.
    pub(super) fn get(&self, source: impl FnOnce() -> AgentBindings) -> Option<&CompiledBindings> {
        // A read is shared by all cores, a write is not.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let compiled = self.compiled.get_or_init(|| Box::new(CompiledBindings::of(source())));
        Some(&**compiled).filter(|compiled| !compiled.is_empty())
    }

    /// Whether they are compiled, and no request used them since the last call.
    pub(super) fn is_idle(&self) -> bool {
        self.compiled.get().is_some() && !self.used.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::policy::tests::samples::{Sample, agent_of};
    use crate::policy::{Policy, PolicyInput};
    use keyward_base::codes::Code;

    /// Gives every agent one connection, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting {
        host: &'static str,
        asked: AtomicUsize,
    }

    impl Counting {
        fn new(host: &'static str) -> Arc<Self> {
            Arc::new(Self { host, asked: AtomicUsize::new(0) })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl BindingSource for Counting {
        fn bindings(&self, org: &OrgId, _agent: &AgentId) -> AgentBindings {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let sample = Sample { agent: agent_of(org.clone(), "any") };
            let bindings = vec![sample.bound(&Sample::account("work", &[self.host]))];
            AgentBindings { bindings, ..AgentBindings::default() }
        }
    }

    fn policy_of(source: &Arc<Counting>, agents: &[&Sample]) -> Policy {
        let mut policy = Policy::compile(PolicyInput::default()).expect("a policy");
        policy.set_source(source.clone());
        agents.iter().for_each(|it| policy.register_agent(&it.agent.org, &it.agent.id));
        policy
    }

    fn code(policy: &Policy, sample: &Sample, host: &str) -> Option<Code> {
        sample.explain(policy, &format!("GET https://{host}/")).code
    }

    #[test]
    fn bindings_are_compiled_at_the_first_request_and_once_for_all_versions() {
        let (one, other, stranger) = (Sample::new(), Sample::new(), Sample::new());
        let source = Counting::new("api.a.test");
        let policy = policy_of(&source, &[&one, &other]);
        assert_eq!(source.asked(), 0);
        assert_eq!(code(&policy, &stranger, "api.a.test"), Some(Code::DefaultDeny));
        assert_eq!(source.asked(), 0, "an agent that is not expected may use nothing");
        assert_eq!(code(&policy, &one, "api.a.test"), None);
        let later = policy.clone();
        assert_eq!((code(&later, &one, "api.a.test"), source.asked()), (None, 1));
        assert_eq!((code(&later, &other, "api.a.test"), source.asked()), (None, 2));
        assert_eq!((code(&policy, &other, "api.a.test"), source.asked()), (None, 2));
    }

    #[test]
    fn only_an_agent_registered_again_gets_the_bindings_of_a_later_source() {
        let (same, changed) = (Sample::new(), Sample::new());
        let (old, new) = (Counting::new("api.a.test"), Counting::new("api.b.test"));
        let before = policy_of(&old, &[&same, &changed]);
        for agent in [&same, &changed] {
            assert_eq!(code(&before, agent, "api.a.test"), None);
        }
        let mut now = before.clone();
        now.set_source(new.clone());
        now.register_agent(&changed.agent.org, &changed.agent.id);
        assert_eq!(code(&now, &same, "api.a.test"), None);
        assert_eq!(code(&now, &changed, "api.b.test"), None);
        assert_eq!(code(&now, &changed, "api.a.test"), Some(Code::DefaultDeny));
        assert_eq!(code(&before, &changed, "api.a.test"), None, "the version before stays");
        assert_eq!((old.asked(), new.asked()), (2, 1));
    }

    #[test]
    fn bindings_unused_between_two_sweeps_are_dropped_and_compiled_again() {
        let (busy, idle, never) = (Sample::new(), Sample::new(), Sample::new());
        let source = Counting::new("api.a.test");
        let mut policy = policy_of(&source, &[&busy, &idle, &never]);
        let ask = |policy: &Policy, it: &Sample| assert_eq!(code(policy, it, "api.a.test"), None);
        ask(&policy, &busy);
        ask(&policy, &idle);
        assert_eq!(policy.drop_idle(), 0, "both were used");
        ask(&policy, &busy);
        assert_eq!(policy.drop_idle(), 1);
        ask(&policy, &busy);
        assert_eq!(source.asked(), 2);
        ask(&policy, &idle);
        assert_eq!(source.asked(), 3);
    }
}
