//! Logins and links: the validity of cookies, and links that work once.

use std::time::Duration;

use super::*;
use jiff::SignedDuration;
use keyward_base::id::LoginId;
use keyward_base::secret::PasswordHash;
use keyward_model::{
    LOGIN_LINKS_MAX, LOGINS_MAX, LinkMaker, Login, LoginSpec, MakerCredential, PersonalTokenSpec,
    Reference, Scope, SignInMethod,
};

const HOUR: i64 = 3_600;
const IDLE: Duration = Duration::from_secs(12 * 3_600);
const EVERY: Duration = Duration::from_secs(300);

impl World {
    /// A login that expires after 7 days, with the text of its token.
    async fn login(&self, user: &Record<User>) -> Result<(LoginId, String), DirectoryError> {
        self.login_with(user, None).await
    }

    /// Adds a login after the check of a password.
    async fn login_with(
        &self,
        user: &Record<User>,
        password: Option<PasswordHash>,
    ) -> Result<(LoginId, String), DirectoryError> {
        let spec = LoginSpec {
            user: Reference::Id(user.id.clone()),
            method: SignInMethod::Link,
            browser: None,
            address: None,
        };
        let expires = self.after(7 * 24 * HOUR);
        let terms = LoginTerms { expires, token_ends: None, password };
        let NewLogin { login, token } = self.directory.add_login(&self.org, spec, terms).await?;
        Ok((login.id.clone(), token.expose_text().unwrap().to_owned()))
    }

    async fn link(&self, user: &Record<User>) -> Result<Secret, DirectoryError> {
        self.link_by(user, None).await
    }

    async fn link_by(
        &self,
        user: &Record<User>,
        maker: Option<LinkMaker>,
    ) -> Result<Secret, DirectoryError> {
        let (expires, bounds) = (self.after(600), LoginBounds::default());
        let new = NewLink { expires, bounds, maker };
        self.directory.add_login_link(&self.org, &user.id, new).await
    }

    async fn uses(&self, link: &Secret) -> bool {
        match self.directory.use_login_link(link).await {
            Ok(_) => true,
            Err(DirectoryError::LinkUsed) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn after(&self, seconds: i64) -> Timestamp {
        self.now() + SignedDuration::from_secs(seconds)
    }

    fn holds(&self, token: &str) -> bool {
        self.directory.view().signed_in(token, IDLE, self.now()).is_some()
    }
}

#[tokio::test]
async fn a_login_ends_12_hours_after_its_last_use_and_7_days_after_the_sign_in() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Admin).await;
    let (idle, unused) = world.login(&ann).await.unwrap();
    let (used_id, used) = world.login(&ann).await.unwrap();
    let note = async || {
        let view = world.directory.view();
        let login = view.one::<Login>(&world.org, &used_id).unwrap().clone();
        world.directory.use_login(&login, EVERY).await.unwrap();
        world.directory.view().one::<Login>(&world.org, &used_id).unwrap().facts.last_used
    };
    let begun = world.now();
    world.pass(299);
    assert_eq!(note().await, begun, "it is noted every 5 minutes");
    world.pass(1);
    assert_eq!(note().await, world.now());
    world.pass(12 * HOUR - 301);
    assert!(world.holds(&unused) && world.holds(&used));
    world.pass(1);
    assert!(!world.holds(&unused), "12 hours after its last use");
    assert!(!world.directory.view().is_login_valid(&world.org, &idle, IDLE, world.now()));
    assert!(world.holds(&used), "its use was noted later");
    note().await;
    assert_eq!(world.directory.remove_ended_logins(IDLE).await.unwrap(), 1);
    while world.now() < begun + SignedDuration::from_hours(7 * 24 - 6) {
        world.pass(6 * HOUR);
        assert!(world.holds(&used));
        note().await;
    }
    world.pass(6 * HOUR);
    assert!(!world.holds(&used), "7 days after the sign-in");
    assert_eq!(world.directory.remove_ended_logins(IDLE).await.unwrap(), 1);
    let rows = [world.rows(Table::Logins).await.len(), world.rows(Table::Tokens).await.len()];
    assert_eq!(rows, [0, 0]);
}

#[tokio::test]
async fn a_login_stays_valid_after_a_restart_and_its_token_is_not_stored() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Member).await;
    let (id, token) = world.login(&ann).await.unwrap();
    let view = world.reopen().await.unwrap().view();
    let (person, login) = view.signed_in(&token, IDLE, world.now()).unwrap();
    assert_eq!((&person.user.name, &login.id), (&"ann".to_owned(), &id));
    assert_eq!(person.credential, UserCredential::Login(id));
    assert!(view.person(&token, world.now()).is_none(), "it is no personal token");
    for (table, row) in world.all_rows().await {
        let at = row.value.windows(8).position(|bytes| bytes == &token.as_bytes()[4..12]);
        assert_eq!(at, None, "{table:?}");
    }
    assert!(!format!("{view:?}").contains(&token[4..20]));
}

#[tokio::test]
async fn a_paused_removed_or_end_user_is_not_signed_in_and_gets_no_link() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Member).await;
    let user = world.user("u|1", Role::EndUser).await;
    assert!(world.login(&user).await.is_err() && world.link(&user).await.is_err());
    let ((_, token), link) = (world.login(&ann).await.unwrap(), world.link(&ann).await.unwrap());
    let set = |paused| move |user: &mut Record<User>| user.paused = paused;
    world.change(&ann.id, set(true)).await.unwrap();
    assert!(!world.holds(&token) && !world.uses(&link).await);
    assert!(world.login(&ann).await.is_err() && world.link(&ann).await.is_err());
    world.change(&ann.id, set(false)).await.unwrap();
    let role = |role| move |user: &mut Record<User>| user.role = role;
    world.change(&ann.id, role(Role::EndUser)).await.unwrap();
    assert!(!world.holds(&token) && !world.uses(&link).await);
    world.change(&ann.id, role(Role::Member)).await.unwrap();
    assert!(world.holds(&token));
    world.remove::<User>(&ann.id).await.unwrap();
    assert!(!world.holds(&token) && !world.uses(&link).await);
    assert_eq!(world.rows(Table::Logins).await.len(), 0, "its logins went with it");
    assert!(world.login(&ann).await.is_err());
}

#[tokio::test]
async fn a_link_works_once_until_it_expires_and_for_one_of_many_callers() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Admin).await;
    let link = world.link(&ann).await.unwrap();
    for wrong in ["", "kwo_", "kwl_x", &"x".repeat(10_000)] {
        assert!(!world.uses(&Secret::from(wrong.to_owned())).await, "{wrong}");
    }
    let racing = futures_util::future::join_all((0..20).map(|_| world.uses(&link))).await;
    assert_eq!(racing.iter().filter(|won| **won).count(), 1);
    assert!(!world.uses(&link).await);
    let (late, kept) = (world.link(&ann).await.unwrap(), world.link(&ann).await.unwrap());
    world.pass(599);
    assert!(world.uses(&kept).await);
    world.pass(1);
    assert!(!world.uses(&late).await, "after 10 minutes");
    let reopened = world.link(&ann).await.unwrap();
    let again = world.reopen().await.unwrap();
    assert!(again.use_login_link(&reopened).await.is_ok(), "it is stored");
}

#[tokio::test]
async fn a_link_ends_with_the_role_and_with_the_token_or_login_of_its_maker() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann", Role::Admin).await, world.user("bob", Role::Admin).await);
    let (directory, org) = (&world.directory, &world.org);
    let expires = Some(world.after(HOUR));
    let spec = PersonalTokenSpec { label: None, scopes: vec![Scope::All] };
    let token = directory.add_personal_token(org, &ann.id, spec, expires).await.unwrap().id;
    let (login, _) = world.login(&ann).await.unwrap();
    let made = async |with: &MakerCredential| {
        let maker = LinkMaker { user: ann.id.clone(), with: with.clone() };
        world.link_by(&bob, Some(maker)).await.unwrap()
    };
    let with = [MakerCredential::Token(token.clone()), MakerCredential::Login(login.clone())];
    let change = async |role: Role, paused: bool| {
        let set = |user: &mut Record<User>| {
            (user.spec.role, user.spec.paused) = (role, paused);
        };
        world.change(&ann.id, set).await.unwrap();
    };
    for with in &with {
        assert!(world.uses(&made(with).await).await, "{with:?}");
        for (role, paused) in [(Role::Member, false), (Role::Auditor, false), (Role::Admin, true)] {
            let link = made(with).await;
            change(role, paused).await;
            assert!(!world.uses(&link).await, "{with:?} {role:?} {paused}");
            change(Role::Admin, false).await;
            assert!(world.uses(&link).await, "a refused use does not use it up");
        }
    }
    let [by_token, by_login] = [made(&with[0]).await, made(&with[1]).await];
    directory.revoke_personal_token(org, &ann.id, &token).await.unwrap();
    assert!(!world.uses(&by_token).await && world.uses(&by_login).await);
    let by_login = made(&with[1]).await;
    world.remove::<Login>(&login).await.unwrap();
    assert!(!world.uses(&by_login).await);
    let of_operator = world.link(&bob).await.unwrap();
    world.remove::<User>(&ann.id).await.unwrap();
    assert!(world.uses(&of_operator).await);
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_logins_and_links_and_the_oldest_ends() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann", Role::Admin).await, world.user("bob", Role::Member).await);
    let (_, of_bob) = world.login(&bob).await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..=LOGINS_MAX {
        world.pass(1);
        tokens.push(world.login(&ann).await.unwrap().1);
    }
    assert!(!world.holds(&tokens[0]));
    assert!(tokens[1..].iter().all(|token| world.holds(token)) && world.holds(&of_bob));
    assert_eq!(world.directory.view().logins_of(&world.org, &ann.id).count(), LOGINS_MAX);
    let mut links = Vec::new();
    for _ in 0..=LOGIN_LINKS_MAX {
        links.push(world.link(&ann).await.unwrap());
    }
    assert!(!world.uses(&links[0]).await && world.uses(&links[1]).await);
}

#[tokio::test]
async fn all_logins_of_a_user_end_but_the_one_that_is_kept() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann", Role::Admin).await, world.user("bob", Role::Member).await);
    let (kept, held) = world.login(&ann).await.unwrap();
    let (_, other) = world.login(&ann).await.unwrap();
    let ((_, of_bob), link) = (world.login(&bob).await.unwrap(), world.link(&ann).await.unwrap());
    let ended = world.directory.end_logins(&world.org, &ann.id, Some(&kept)).await.unwrap();
    assert_eq!(ended, 1);
    assert!(world.holds(&held) && world.holds(&of_bob));
    assert!(!world.holds(&other) && !world.uses(&link).await);
    assert_eq!(world.directory.end_logins(&world.org, &ann.id, None).await.unwrap(), 1);
    assert!(!world.holds(&held) && world.holds(&of_bob));
}

fn hash(salt: &str) -> PasswordHash {
    PasswordHash { memory_kib: 8, passes: 1, lanes: 1, salt: salt.to_owned(), hash: String::new() }
}

/// The second caller may have signed in with the password that the first one replaced.
#[tokio::test]
async fn the_second_of_two_callers_that_replace_one_password_is_refused() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Admin).await;
    world.directory.set_password(&ann, Some(hash("first"))).await.unwrap();
    for password in [Some(hash("second")), None] {
        let refused = world.directory.set_password(&ann, password).await.unwrap_err();
        assert!(matches!(refused, DirectoryError::Changed { .. }), "{refused}");
    }
    let view = world.directory.view();
    let now = view.one::<User>(&world.org, &ann.id).unwrap();
    assert_eq!(now.facts.password, Some(hash("first")));
}

#[tokio::test]
async fn a_sign_in_with_a_password_that_was_replaced_meanwhile_leaves_neither_login_nor_network() {
    let world = World::new().await;
    let ann = world.user("ann", Role::Admin).await;
    let set = async |password: Option<PasswordHash>| {
        let now = world.directory.view().one::<User>(&world.org, &ann.id).unwrap().clone();
        world.directory.set_password(&now, password).await.unwrap();
    };
    let (old, network) = (hash("old"), "192.0.2.1".parse().unwrap());
    set(Some(old.clone())).await;
    let (kept, token) = world.login_with(&ann, Some(old.clone())).await.unwrap();
    assert!(world.holds(&token));
    for now in [Some(hash("new")), None] {
        set(now).await;
        world.directory.know_network(&world.org, &ann.id, network, &old).await.unwrap();
        let refused = world.login_with(&ann, Some(old.clone())).await.unwrap_err();
        assert!(matches!(refused, DirectoryError::Changed { .. }), "{refused}");
    }
    let view = world.directory.view();
    let left: Vec<_> = view.logins_of(&world.org, &ann.id).map(|login| login.id.clone()).collect();
    assert_eq!(left, [kept]);
    assert_eq!(world.rows(Table::Tokens).await.len(), 1, "that of the login before");
    assert!(view.one::<User>(&world.org, &ann.id).unwrap().facts.networks.is_empty());
}
