//! How a person signs in, on their page: password, one-time codes and passkeys. People change their own, admins those of all.

use maud::{Markup, html};

use crate::parts::{Action, ago};
use crate::visit::{Visit, segment};
use keyward_model::{PasskeyShown, Shown, SignInMethod, User};

/// The dialog of a new key.
const KEY: &str = "totp-key";

/// What the reader must prove to change the means of a person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// Nothing: they are an admin who changes another's, or signed in with a link.
    None,
    /// The current password: a browser that was left open is not enough.
    Password,
}

/// Password and one-time codes of a person.
struct Means<'a> {
    user: &'a Shown<User>,
    proof: Proof,
}

pub(super) fn panel(visit: &Visit, user: &Shown<User>, is_self: bool) -> Markup {
    let is_by_link = visit.me.method == Some(SignInMethod::Link);
    let proof = if is_self && !is_by_link { Proof::Password } else { Proof::None };
    let means = Means { user, proof };
    html! {
        section.panel #means {
            header { h2 { "Sign-in" } }
            @if let Some(identity) = &user.facts.identity {
                div.body { p { "Signs in at " code { (identity.issuer) } ", which decides the role as well." } }
            } @else { div.body {
                h3 { "Password" }
                (means.password())
                br;
                h3 { "One-time codes" }
                (means.codes())
                br;
                h3 { "Passkeys" }
                (means.passkeys(is_self))
            } }
        }
    }
}

impl Means<'_> {
    fn api(&self, method: &str, what: &str) -> String {
        format!("{method} /users/{}/{what}", segment(&self.user.spec.name))
    }

    fn password(&self) -> Markup {
        let (name, is_set) = (&self.user.spec.name, self.user.facts.sign_in.password);
        let new = Secret {
            form: "password",
            name: "password",
            label: "New password",
            help: Some("12 to 256 characters."),
            complete: "new-password",
        };
        let remove = Action::removal(
            self.api("DELETE", "password"),
            "Remove password",
            format!("Remove the password of {name}?\nLinks and passkeys still sign in."),
        );
        html! {
            p.muted { @if is_set { "A password is set." } @else { "No password is set." } }
            details #set-password {
                summary { @if is_set { "Change password" } @else { "Set password" } }
                form method="post" data-api=(self.api("PUT", "password")) data-done="Saved. Other browsers of this person are signed out." {
                    input type="text" value=(name) autocomplete="username" hidden;
                    @if is_set { (self.current("password")) }
                    (new.show())
                    button.first { "Save password" }
                }
            }
            @if is_set { (self.removal(&remove)) }
        }
    }

    fn codes(&self) -> Markup {
        let (name, methods) = (&self.user.spec.name, &self.user.facts.sign_in);
        let remove = Action::removal(
            self.api("DELETE", "totp"),
            "Remove codes",
            format!("Remove the one-time codes of {name}?\nThe password alone signs in."),
        );
        let asks_code = methods.totp && self.proof == Proof::Password;
        html! {
            p.muted {
                @if methods.totp { "A code is required beside the password." }
                @else if methods.password { "No code is required beside the password." }
                @else { "Set a password first: codes are required beside it. Links need none." }
            }
            @if methods.password {
                details #set-up-codes {
                    summary { @if methods.totp { "Use another authenticator program" } @else { "Set up codes" } }
                    form method="post" data-api=(self.api("POST", "totp")) data-fill=(KEY) {
                        (self.current("totp"))
                        @if asks_code { (code("totp", "Code of the current program").show()) }
                        button.first { "Show key" }
                    }
                }
            }
            @if methods.totp { (self.removal(&remove)) }
        }
    }

    /// People register their own; an admin removes all of another.
    fn passkeys(&self, is_self: bool) -> Markup {
        let (name, all) = (&self.user.spec.name, &self.user.facts.sign_in.passkeys);
        let remove_all = Action::removal(
            self.api("DELETE", "passkeys"),
            "Remove passkeys",
            format!("Remove the passkeys of {name}?\nTheir devices do not sign in any more."),
        );
        html! {
            @if all.is_empty() { p.muted { "None: a passkey signs in with a device’s PIN, finger or face." } }
            ul.rows { @for passkey in all { li {
                div.grow {
                    p { (passkey.name) }
                    p.small.muted { "added " (ago(passkey.created)) @if let Some(used) = passkey.last_used { " · used " (ago(used)) } }
                }
                @if is_self { (removal_of(passkey).show()) }
            } } }
            @if is_self {
                details #add-passkey {
                    summary { "Add passkey" }
                    form method="post" data-api="POST /session/passkeys/challenge" data-register="POST /session/passkeys" data-done="Added. It signs in at this address." {
                        div.field {
                            label for="passkey-name" { "Name" }
                            input #passkey-name name="name" required data-path maxlength="64" autocomplete="off" placeholder="laptop";
                        }
                        (self.current("passkey"))
                        button.first { "Add passkey" }
                    }
                }
            } @else if !all.is_empty() { br; div.actions { (remove_all.show()) } }
        }
    }

    fn current(&self, form: &str) -> Markup {
        html! {
            @if self.proof == Proof::Password && self.user.facts.sign_in.password {
                (Secret { form, name: "current", label: "Current password", help: None, complete: "current-password" }.show())
            }
        }
    }

    fn removal(&self, remove: &Action<'_>) -> Markup {
        html! {
            br;
            @if self.proof == Proof::None { div.actions { (remove.show()) } }
            @else { p.small.muted { "To remove it, sign in with a link." } }
        }
    }
}

fn removal_of(passkey: &PasskeyShown) -> Action<'static> {
    Action::removal(
        format!("DELETE /session/passkeys/{}", passkey.id),
        "Remove",
        format!("Remove the passkey {}?\nIt does not sign in any more.", passkey.name),
    )
}

/// The key that is shown once, and the form of its first code.
pub(super) fn dialog(user: &Shown<User>) -> Markup {
    let name = &user.spec.name;
    html! {
        dialog id=(KEY) aria-labelledby="totp-key-title" {
            h2 #totp-key-title { "Set up one-time codes" }
            p { "Scan the picture with your authenticator program, or type the key. It is not shown again." }
            img.qr data-cell="qr" alt="QR code of the key" width="200" height="200";
            div.copy {
                pre.code data-cell="secret" tabindex="0" {}
                button type="button" data-copy { "Copy" }
            }
            form method="post" data-api=(format!("PUT /users/{}/totp", segment(name))) data-done="Codes are required from now on." {
                (code("totp-first", "Code that it shows now").show())
                div.actions { button type="button" data-close { "Cancel" } button.first { "Confirm" } }
            }
        }
    }
}

/// A field of something secret.
struct Secret<'a> {
    /// The form: ids are unique in the page.
    form: &'a str,
    name: &'a str,
    label: &'a str,
    help: Option<&'a str>,
    /// What a password manager may fill in.
    complete: &'a str,
}

fn code<'a>(form: &'a str, label: &'a str) -> Secret<'a> {
    Secret { form, name: "code", label, help: None, complete: "one-time-code" }
}

impl Secret<'_> {
    fn show(&self) -> Markup {
        let Self { form, name, label, help, complete } = self;
        let (id, is_code) = (format!("{form}-{name}"), *name == "code");
        html! {
            div.field {
                label for=(id) { (label) }
                input id=(id) name=(name) type=(if is_code { "text" } else { "password" }) required autocomplete=(complete)
                    inputmode=[is_code.then_some("numeric")] spellcheck="false" autocapitalize="off";
                @if let Some(help) = help { p.help { (help) } }
            }
        }
    }
}
