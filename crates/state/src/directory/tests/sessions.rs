//! Sessions: which tokens authenticate, when sessions end, and what is refused.

use super::busy_replica::{BusyReplica, Moment};
use super::*;
use crate::store::memory::MemoryReplica;
use jiff::SignedDuration;
use keyward_model::{
    ConnectSessionSpec, LoginSpec, PersonalTokenSpec, Reference, Session, SessionSpec, SignInMethod,
};

const HOUR: i64 = 3_600;

impl World {
    /// A session of one hour for a user, with the text of its token.
    async fn session(
        &self,
        agent: &Record<Agent>,
        user: &Record<User>,
        max: usize,
    ) -> Result<(SessionId, String), DirectoryError> {
        let made = self.add_session(spec(agent, Some(user)), max).await?;
        Ok((made.session.id.clone(), made.token.expose_text().unwrap().to_owned()))
    }

    async fn add_session(
        &self,
        spec: SessionSpec,
        max: usize,
    ) -> Result<NewSession, DirectoryError> {
        let expires = self.now() + SignedDuration::from_secs(HOUR);
        self.directory.add_session(&self.org, spec, expires, max).await
    }

    fn holder(&self, token: &str) -> Option<keyward_base::agent::Agent> {
        self.directory.view().authenticate(token, self.now())
    }
}

fn spec(agent: &Record<Agent>, user: Option<&Record<User>>) -> SessionSpec {
    SessionSpec {
        agent: Reference::Id(agent.id.clone()),
        user: user.map(|user| Reference::Id(user.id.clone())),
        connections: None,
        environment: None,
        label: None,
    }
}

#[tokio::test]
async fn a_session_ends_at_its_time_and_its_row_is_removed_then() {
    let world = World::new().await;
    let (agent, user) = (world.agent("a").await, world.user("u|1", Role::EndUser).await);
    let (id, token) = world.session(&agent, &user, 10).await.unwrap();
    world.pass(HOUR - 1);
    assert_eq!(world.directory.remove_ended_sessions().await.unwrap(), 0);
    let held = world.holder(&token).unwrap();
    let session = held.session.clone().unwrap();
    assert_eq!((&held.id, &held.token, &session.id), (&agent.id, &None, &id));
    assert_eq!(session.user.as_ref().map(|(_, name)| &**name), Some("u|1"));
    world.pass(1);
    assert!(world.holder(&token).is_none(), "also before the job has run");
    assert!(!world.directory.view().is_still_authenticated(&held, world.now()));
    assert!(world.directory.view().was_session(&token));
    assert_eq!(world.directory.remove_ended_sessions().await.unwrap(), 1);
    assert_eq!(world.rows(Table::Sessions).await.len() + world.rows(Table::Tokens).await.len(), 0);
    assert!(world.directory.view().was_session(&token), "its refusal still says so");
    assert!(!world.directory.view().was_session("kwa_unknown"));
}

#[tokio::test]
async fn a_session_ends_with_its_agent_and_its_user() {
    let world = World::new().await;
    for ends in ["agent held", "agent removed", "user paused", "user removed", "role", "revoked"] {
        let agent = world.agent(&format!("a{}", ends.len())).await;
        let user = world.user(ends.replace(' ', "|").as_str(), Role::EndUser).await;
        let (id, token) = world.session(&agent, &user, 100).await.unwrap();
        let held = world.holder(&token).expect(ends);
        let (directory, org, by) = (&world.directory, &world.org, ManagedBy::Store);
        match ends {
            "agent held" => {
                let hold = |it: &mut Record<Agent>| it.facts.held = true;
                drop(directory.change::<Agent>(org, &agent.id, hold).await.unwrap());
            }
            "agent removed" => directory.remove::<Agent>(org, &agent.id, by).await.unwrap(),
            "user paused" => {
                let pause = |it: &mut Record<User>| it.spec.paused = true;
                drop(directory.change::<User>(org, &user.id, pause).await.unwrap());
            }
            "user removed" => directory.remove::<User>(org, &user.id, by).await.unwrap(),
            "role" => {
                let change = |it: &mut Record<User>| it.spec.role = Role::Member;
                drop(directory.change::<User>(org, &user.id, change).await.unwrap());
            }
            _ => directory.remove::<Session>(org, &id, by).await.unwrap(),
        }
        assert!(world.holder(&token).is_none(), "{ends}");
        assert!(!directory.view().is_still_authenticated(&held, world.now()), "{ends}");
        assert!(directory.view().was_session(&token), "{ends}");
        let reopened = world.reopen().await.unwrap().view();
        assert!(reopened.authenticate(&token, world.now()).is_none(), "{ends}");
    }
    // The sessions of the removed agent and user; the other sessions may become valid again.
    assert_eq!(world.directory.remove_ended_sessions().await.unwrap(), 2);
    assert_eq!(world.rows(Table::Sessions).await.len(), 3);
}

/// Another replica has added all three, and their rows are read in any order.
#[tokio::test]
async fn a_session_that_is_read_before_its_agent_and_user_authenticates_when_they_are_read() {
    let world = World::new().await;
    let (agent, user) = (world.agent("a").await, world.user("u", Role::EndUser).await);
    let (id, token) = world.session(&agent, &user, 10).await.unwrap();
    let session = world.directory.view().one::<Session>(&world.org, &id).unwrap().clone();
    let view = View::default().with(session);
    assert_eq!(view.authenticate(&token, world.now()), None);
    for view in [view.clone().with(agent.clone()), view.clone().with(user.clone())] {
        assert_eq!(view.authenticate(&token, world.now()), None);
    }
    for view in [view.clone().with(agent.clone()).with(user.clone()), view.with(user).with(agent)] {
        assert_eq!(view.authenticate(&token, world.now()), world.holder(&token));
    }
    assert!(world.holder(&token).is_some());
}

/// Adds a user with a session, one with a connect session, and one with a login. Returns the token of the session.
async fn add_users(directory: &Directory, agent: &Record<Agent>, now: Timestamp) -> Secret {
    let (org, later) = (&agent.org, now + SignedDuration::from_hours(1));
    let user = async |name, role| add_user(directory, org, name, role).await.unwrap();
    let end_user = user("u", Role::EndUser).await;
    let connecting = Some(Reference::Id(user("v", Role::EndUser).await.id.clone()));
    let connecting = ConnectSessionSpec { user: connecting, ..ConnectSessionSpec::default() };
    directory.add_connect_session(org, connecting, 10, None).await.unwrap();
    let user = Reference::Id(user("ann", Role::Member).await.id.clone());
    let login = LoginSpec { user, method: SignInMethod::Link, browser: None, address: None };
    let terms = LoginTerms { expires: later, token_ends: None, password: None };
    directory.add_login(org, login, terms).await.unwrap();
    directory.add_session(org, spec(agent, Some(&end_user)), later, 10).await.unwrap().token
}

/// Another replica adds them after the starting one has read the users, and before it reads the sessions.
#[tokio::test]
async fn sessions_links_and_logins_of_users_that_a_starting_replica_has_not_read_are_kept() {
    let world = World::new().await;
    let rows = MemoryReplica::first();
    let other = world.open(rows.another()).await;
    let agent = add_agent(&other, &world.org, "a").await.unwrap();
    let (made, token) = tokio::sync::oneshot::channel();
    let now = world.now();
    let change = async move { made.send(add_users(&other, &agent, now).await).unwrap() };
    let moment = Moment::BeforePage(Table::Sessions, 0);
    let started = world.open(BusyReplica::new(rows.another(), moment, change)).await;
    let view = started.view();
    assert_eq!((view.sessions().count(), view.all::<User>(&world.org).count()), (1, 0));
    assert_eq!(started.remove_ended_sessions().await.unwrap(), 0);
    assert!(started.removable_connect_sessions().await.unwrap().is_empty());
    let idle = std::time::Duration::from_secs(3_600);
    assert_eq!(started.remove_ended_logins(idle).await.unwrap(), 0);
    for table in [Table::Sessions, Table::ConnectSessions, Table::Logins] {
        assert_eq!(rows.list(table, RowRange::first(10)).await.unwrap().len(), 1, "{table:?}");
    }
    let token = token.await.unwrap();
    let held = started.view().authenticate(token.expose_text().unwrap(), now);
    assert!(held.is_some_and(|agent| agent.session.is_some()), "the user was read");
}

#[tokio::test]
async fn a_session_outlives_a_restart() {
    let world = World::new().await;
    let (agent, user) = (world.agent("a").await, world.user("u", Role::EndUser).await);
    let (id, token) = world.session(&agent, &user, 10).await.unwrap();
    let held = world.holder(&token);
    let reopened = world.reopen().await.unwrap();
    assert_eq!(reopened.view().authenticate(&token, world.now()), held);
    reopened.remove::<Session>(&world.org, &id, ManagedBy::Store).await.unwrap();
    assert!(world.reopen().await.unwrap().view().authenticate(&token, world.now()).is_none());
    assert_eq!(world.rows(Table::Tokens).await.len(), 0);
}

#[tokio::test]
async fn more_sessions_than_the_limit_are_refused_until_some_have_ended() {
    let world = World::new().await;
    let (agent, user) = (world.agent("a").await, world.user("u", Role::EndUser).await);
    world.session(&agent, &user, 2).await.unwrap();
    world.session(&agent, &user, 2).await.unwrap();
    let refused = world.session(&agent, &user, 2).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::TooManySessions { max: 2 }), "{refused}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("limits.sessions_max")));
    assert_eq!(world.rows(Table::Tokens).await.len(), 2, "nothing is left of the third");
    world.pass(HOUR);
    world.session(&agent, &user, 2).await.expect("expired ones make room");
}

#[tokio::test]
async fn only_active_end_users_of_the_organisation_have_sessions() {
    let world = World::new().await;
    let agent = world.agent("a").await;
    let member = world.user("ann", Role::Member).await;
    let gone = world.user("gone", Role::EndUser).await;
    world.remove::<User>(&gone.id).await.unwrap();
    let other = world.other_org().await;
    let foreign = add_user(&world.directory, &other, "x", Role::EndUser).await.unwrap();
    for user in [&member, &gone, &foreign] {
        let refused = world.session(&agent, user, 10).await.unwrap_err();
        assert!(refused.to_string().contains("end_user"), "{refused}");
    }
    let refused = world.add_session(spec(&agent, None), 10).await.unwrap_err();
    assert!(refused.to_string().starts_with("`user` is missing"), "{refused}");
    assert_eq!(world.rows(Table::Sessions).await.len(), 0);
}

#[tokio::test]
async fn an_end_user_has_no_personal_token() {
    let world = World::new().await;
    let (end_user, member) =
        (world.user("u", Role::EndUser).await, world.user("ann", Role::Member).await);
    let add = async |user: &Record<User>| {
        let spec = PersonalTokenSpec::default();
        world.directory.add_personal_token(&world.org, &user.id, spec, None).await
    };
    let refused = add(&end_user).await.unwrap_err().to_string();
    assert!(refused.contains("no personal tokens"), "{refused}");
    let issued = add(&member).await.unwrap();
    let change = |it: &mut Record<User>| it.spec.role = Role::EndUser;
    let refused = world.change::<User>(&member.id, change).await;
    assert!(refused.unwrap_err().to_string().contains("no personal tokens"));
    let text = issued.text.expose_text().unwrap();
    assert!(world.directory.view().person(text, world.now()).is_some());
}
