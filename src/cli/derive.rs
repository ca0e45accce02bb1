//! Options of `add` and `set`, made of the members that a resource declares with an `#[option(…)]`, and what is given
//! by them as the body of a request. What needs more than its text, such as a secret, has an argument of its own.

use std::fmt::Debug;
use std::marker::PhantomData;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::resource::{pair, unique};
use keyward_base::keys::{Absent, JsonKind, Key, MemberOption, OptionCommands, Section, Shape};
use keyward_base::settings::{FieldText, parse_name};
use keyward_model::Resource;

/// What a command does to a resource, and with which of its members.
pub(crate) trait CommandVerb: Debug + Send + Sync + 'static {
    const CHANGES: bool = false;
    /// Only members within `settings`, or only others; `None`: both.
    const SETTINGS: Option<bool> = None;
}

#[derive(Debug)]
pub(crate) enum Adding {}

/// Without settings.
#[derive(Debug)]
pub(crate) enum AddingPlain {}

/// Settings alone.
#[derive(Debug)]
pub(crate) enum AddingSettings {}

#[derive(Debug)]
pub(crate) enum Changing {}

impl CommandVerb for Adding {}

impl CommandVerb for AddingPlain {
    const SETTINGS: Option<bool> = Some(false);
}

impl CommandVerb for AddingSettings {
    const SETTINGS: Option<bool> = Some(true);
}

impl CommandVerb for Changing {
    const CHANGES: bool = true;
}

/// The members of a resource that are given as options.
#[derive(Debug)]
pub(crate) struct MemberArgs<R, V> {
    given: Vec<(OptionMember, Vec<String>)>,
    /// The names of members that are taken away: `--no-email`, or `env` of `--clear env`.
    cleared: Vec<String>,
    of: PhantomData<(R, V)>,
}

impl<R, V> Default for MemberArgs<R, V> {
    fn default() -> Self {
        Self { given: Vec::new(), cleared: Vec::new(), of: PhantomData }
    }
}

/// The arguments of a command that changes one.
#[derive(Debug, Args)]
pub(crate) struct SetArgs<R: Resource> {
    /// name or id
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) members: MemberArgs<R, Changing>,
}

/// A member with an option, and where it is in a request.
#[derive(Clone, Debug)]
struct OptionMember {
    path: Vec<&'static str>,
    shape: Shape,
    option: MemberOption,
}

/// What `--clear` takes: `env`, or `header=NAME` for one of several.
struct Clearable {
    word: String,
    path: Vec<&'static str>,
    /// Of a member with several values by name; `None`: the word takes it away as a whole.
    one_of: Option<OptionMember>,
}

/// Members of settings, which a change can remove at once.
const SETTINGS: &str = "settings";

/// What `--clear` takes away of settings.
const ALL: &str = "all";

impl<R: Resource, V: CommandVerb> MemberArgs<R, V> {
    fn keys() -> Vec<Key> {
        let mut keys = keys_of::<R::Spec>();
        match V::CHANGES {
            true => {
                keys.retain(|key| !R::FIXED.contains(&key.name));
                keys.extend(keys_of::<R::ChangeOptions>());
            }
            false => keys.extend(keys_of::<R::CreateOptions>()),
        }
        keys
    }

    fn members() -> Vec<OptionMember> {
        let mut found = Vec::new();
        collect(Self::keys(), &[], &mut found);
        let other = if V::CHANGES { OptionCommands::Additions } else { OptionCommands::Changes };
        found.retain(|it| it.option.commands != other);
        found
            .retain(|it| V::SETTINGS.is_none_or(|is_wanted| is_wanted == (it.path[0] == SETTINGS)));
        found
    }

    /// What no option of its own takes away.
    fn clearable() -> Vec<Clearable> {
        let mut found = Vec::new();
        if V::CHANGES {
            collect_clearable(keys_of::<R::Spec>(), &[], &mut found);
            found.retain(|it| !R::FIXED.contains(&it.path[0]));
        }
        found
    }

    /// The first option that is given, without dashes.
    pub(crate) fn first(&self) -> Option<&'static str> {
        self.given.first().map(|(member, _)| member.option.long)
    }

    /// What is given for a member of the body.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, texts) = self.given.iter().find(|(member, _)| member.path == [name])?;
        texts.last().map(String::as_str)
    }

    /// Whether `--clear` has this word.
    pub(crate) fn clears(&self, word: &str) -> bool {
        self.cleared.iter().any(|cleared| cleared == word)
    }

    /// The body of a request; only what was given.
    ///
    /// # Errors
    /// When one thing is given in two ways.
    pub(crate) fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        for (member, texts) in &self.given {
            put(&mut body, &member.path, member.value(texts)?);
        }
        for word in self.cleared.iter().filter(|word| *word != ALL) {
            let before = Self::clear(&mut body, word)?;
            if before.is_some_and(|before| !before.is_null()) {
                return Err(Failure::usage(format!("{word} is both set and cleared")));
            }
        }
        if self.clears(ALL) && body.insert(SETTINGS.to_owned(), Value::Null).is_some() {
            return Err(Failure::usage("--clear all cannot be combined with other settings"));
        }
        Ok(body)
    }

    /// The same; a change that changes nothing is refused.
    ///
    /// # Errors
    /// As [`MemberArgs::body`].
    pub(crate) fn patch(&self) -> Result<Map<String, Value>, Failure> {
        something(self.body()?)
    }

    /// Takes a member away; returns what was given for it.
    fn clear(body: &mut Map<String, Value>, word: &str) -> Result<Option<Value>, Failure> {
        let own = |member: &OptionMember| member.option.clear.is_some_and(|(long, _)| long == word);
        if let Some(member) = Self::members().into_iter().find(own) {
            let value = if member.is_switch(V::CHANGES) { json!(false) } else { Value::Null };
            put(body, &member.path, value);
            return Ok(None);
        }
        let (name, one) = word.split_once('=').unwrap_or((word, ""));
        let is_named = |it: &Clearable| it.word == name && it.one_of.is_some() != one.is_empty();
        let Some(found) = Self::clearable().into_iter().find(is_named) else { return Ok(None) };
        // A list that is given replaces the one before.
        if let [name] = found.path[..]
            && body.get(name).is_some_and(Value::is_array)
        {
            return Ok(None);
        }
        let one = found.one_of.map(|member| member.name_of_one(one).map_err(Failure::usage));
        let one = one.transpose()?;
        let path: Vec<_> = found.path.into_iter().chain(one.as_deref()).collect();
        Ok(put(body, &path, Value::Null))
    }
}

impl<R: Resource, V: CommandVerb> Args for MemberArgs<R, V> {
    fn augment_args(mut command: Command) -> Command {
        for member in Self::members() {
            let clear = member.option.clear.filter(|_| V::CHANGES);
            command = command.arg(member.arg::<R>(V::CHANGES));
            if let Some((long, help)) = clear {
                let arg = Arg::new(long).long(long).help(help).help_heading(member.option.heading);
                let arg = arg.action(ArgAction::SetTrue).conflicts_with(member.option.long);
                command = command.arg(arg);
            }
        }
        let clearable = Self::clearable();
        if clearable.is_empty() {
            return command;
        }
        let words = words(&clearable);
        let other = words[1..].iter().find(|word| word.contains('=')).or(words[1..].last());
        let other = other.map(|word| format!(" or {word}")).unwrap_or_default();
        let help = format!("remove what an option set, such as {}{other}; several times", words[0]);
        let parse = move |text: &str| cleared(&Self::clearable(), text);
        let arg = Arg::new("clear").long("clear").value_name("WHAT").help(help);
        let arg = arg.help_heading(None::<&'static str>);
        command.arg(arg.action(ArgAction::Append).value_parser(parse))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<R: Resource, V: CommandVerb> FromArgMatches for MemberArgs<R, V> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (mut given, mut cleared) = (Vec::new(), Vec::new());
        for member in Self::members() {
            if let Some((long, _)) = member.option.clear.filter(|_| V::CHANGES)
                && matches.get_flag(long)
            {
                cleared.push(long.to_owned());
            }
            if let Some(texts) = member.given(V::CHANGES, matches) {
                given.push((member, texts));
            }
        }
        if !Self::clearable().is_empty() {
            cleared.extend(matches.get_many::<String>("clear").into_iter().flatten().cloned());
        }
        Ok(Self { given, cleared, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl OptionMember {
    fn kind(&self) -> JsonKind {
        self.shape.json()
    }

    /// Whether it is given without a value.
    fn is_switch(&self, changes: bool) -> bool {
        let is_false = matches!(self.shape.absent(), Absent::Default("false"));
        self.option.value.is_empty() || (is_false && !changes)
    }

    /// Whether it has fields of requests, `NAME: VALUE`. Clap does not read them, because it repeats what it refuses.
    fn is_fields(&self) -> bool {
        self.option.value.contains(": ")
    }

    fn arg<R: Resource>(&self, changes: bool) -> Arg {
        let MemberOption { long, value, help, heading, .. } = self.option;
        let is_required = matches!(self.shape.absent(), Absent::Required);
        let arg = Arg::new(long).long(long).help(help).help_heading(heading);
        if self.is_switch(changes) {
            return arg.action(ArgAction::SetTrue);
        }
        let (name, several) = value.strip_suffix(',').map_or((value, false), |name| (name, true));
        let arg = arg.value_name(name).required(is_required && !changes);
        let arg = if several { arg.value_delimiter(',') } else { arg };
        let member = self.clone();
        match (self.kind(), self.shape) {
            (JsonKind::Flag, _) => arg
                .num_args(0..=1)
                .default_missing_value("true")
                .value_parser(PossibleValuesParser::new(["true", "false"])),
            (_, Shape::Choice(words, _)) => {
                arg.value_parser(PossibleValuesParser::new(words.iter().copied()))
            }
            (JsonKind::Map, _) if self.is_fields() => arg.action(ArgAction::Append),
            (JsonKind::Map, _) => arg
                .action(ArgAction::Append)
                .value_parser(|text: &str| pair(text).map(|_| text.to_owned())),
            (JsonKind::Texts | JsonKind::Numbers, _) => arg
                .action(ArgAction::Append)
                .value_parser(move |text: &str| member.checked::<R::Spec>(text)),
            (JsonKind::Text | JsonKind::Number, _) => {
                arg.value_parser(move |text: &str| member.checked::<R::Spec>(text))
            }
        }
    }

    fn given(&self, changes: bool, matches: &ArgMatches) -> Option<Vec<String>> {
        let long = self.option.long;
        match self.is_switch(changes) {
            true => matches.get_flag(long).then(|| vec!["true".to_owned()]),
            false => matches.get_many::<String>(long).map(|texts| texts.cloned().collect()),
        }
    }

    /// A value that can be one. Settings are judged here, by the types that read them; the rest by the gateway.
    fn checked<S: DeserializeOwned>(&self, text: &str) -> Result<String, String> {
        let value = self.item(text)?;
        let value = match self.kind() {
            JsonKind::Texts | JsonKind::Numbers => json!([value]),
            _ => value,
        };
        if self.path.len() > 1 {
            let mut members = Map::new();
            put(&mut members, &self.path, value);
            let refused = serde_json::from_value::<S>(members.into()).err();
            let refused = refused.map(|error| error.to_string());
            // Other members are not given here.
            if let Some(why) = refused.filter(|why| !why.starts_with("missing field")) {
                return Err(why);
            }
        }
        Ok(text.to_owned())
    }

    fn item(&self, text: &str) -> Result<Value, String> {
        match self.kind() {
            JsonKind::Number | JsonKind::Numbers => {
                let number = text.trim().parse::<u64>();
                number.map(Value::from).map_err(|_| "this is no number".to_owned())
            }
            JsonKind::Flag => Ok(json!(text == "true")),
            JsonKind::Text | JsonKind::Texts | JsonKind::Map => Ok(json!(text)),
        }
    }

    fn value(&self, texts: &[String]) -> Result<Value, Failure> {
        let items = || texts.iter().map(|text| self.item(text)).collect::<Result<Vec<_>, _>>();
        match self.kind() {
            JsonKind::Texts | JsonKind::Numbers => items().map(Value::from).map_err(Failure::usage),
            JsonKind::Map if self.is_fields() => fields(texts).map(Value::from),
            JsonKind::Map => {
                let pairs = texts.iter().map(|text| pair(text)).collect::<Result<Vec<_>, String>>();
                let pairs = unique(pairs.map_err(Failure::usage)?)?;
                match pairs.keys().find_map(|name| self.name_of_one(name).err()) {
                    Some(why) => Err(Failure::usage(why)),
                    None => Ok(json!(pairs)),
                }
            }
            _ => {
                let last = items().map_err(Failure::usage)?.pop();
                Ok(last.unwrap_or_default())
            }
        }
    }

    /// The name of one of several values, if it can be one.
    fn name_of_one(&self, name: &str) -> Result<String, String> {
        match self.shape {
            _ if self.is_fields() => {
                parse_name(name).map(|name| name.to_string()).map_err(|error| error.to_string())
            }
            Shape::Map(keys) if !keys().iter().any(|key| key.name == name) => {
                let known: Vec<_> = keys().iter().map(|key| key.name).collect();
                Err(format!(
                    "there is no {} `{name}`: write {}",
                    self.option.long,
                    known.join(", ")
                ))
            }
            _ => Ok(name.to_owned()),
        }
    }
}

fn keys_of<S: Section>() -> Vec<Key> {
    S::keys()
}

fn collect(keys: Vec<Key>, within: &[&'static str], found: &mut Vec<OptionMember>) {
    for key in keys {
        let path = [within, &[key.name]].concat();
        match (key.option, key.shape) {
            (Some(option), shape) => found.push(OptionMember { path, shape, option }),
            (None, Shape::Map(inner)) => collect(inner(), &path, found),
            (None, _) => {}
        }
    }
}

/// A map of settings is a section of options; one within it is taken away as a whole.
fn collect_clearable(keys: Vec<Key>, within: &[&'static str], found: &mut Vec<Clearable>) {
    for key in keys {
        let path = [within, &[key.name]].concat();
        let word = key.name.replace('_', "-");
        match (key.option, key.shape) {
            (Some(option), shape) => {
                let is_required = matches!(shape.absent(), Absent::Required);
                let is_fixed = is_required || option.commands == OptionCommands::Additions;
                if is_fixed || option.clear.is_some() || option.value.is_empty() {
                    continue;
                }
                let is_list = matches!(shape.json(), JsonKind::Texts | JsonKind::Numbers);
                let member = OptionMember { path: path.clone(), shape, option };
                let one_of = (shape.json() == JsonKind::Map).then_some(member);
                let long = option.long.to_owned();
                let is_map = one_of.is_some();
                if is_map {
                    found.push(Clearable { word: long.clone(), path: path.clone(), one_of });
                }
                if !is_map || !within.is_empty() {
                    let word = if is_list || is_map { word } else { long };
                    found.push(Clearable { word, path, one_of: None });
                }
            }
            (None, Shape::Map(inner)) if within.is_empty() => {
                let before = found.len();
                collect_clearable(inner(), &path, found);
                if found.len() > before && key.name == SETTINGS {
                    found.push(Clearable { word: ALL.to_owned(), path, one_of: None });
                }
            }
            (None, Shape::Map(_)) => found.push(Clearable { word, path, one_of: None }),
            (None, _) => {}
        }
    }
}

fn words(all: &[Clearable]) -> Vec<String> {
    let word = |it: &Clearable| match it.one_of {
        Some(_) => format!("{}=NAME", it.word),
        None => it.word.clone(),
    };
    all.iter().map(word).collect()
}

/// A word of `--clear`.
fn cleared(all: &[Clearable], text: &str) -> Result<String, String> {
    let (name, one) = text.split_once('=').unwrap_or((text, ""));
    let is_named = |it: &&Clearable| it.word == name && it.one_of.is_some() != one.is_empty();
    match all.iter().find(is_named) {
        Some(Clearable { one_of: Some(member), .. }) => {
            member.name_of_one(one).map(|_| text.to_owned())
        }
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("write {}", words(all).join(", "))),
    }
}

/// Fields of requests, by name.
fn fields(texts: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    for text in texts {
        let Some((name, value)) = text.split_once(':') else {
            return Err(Failure::usage("a header is written `NAME: VALUE`"));
        };
        let name = parse_name(name.trim()).map_err(|error| Failure::usage(error.to_string()))?;
        let value: FieldText =
            value.parse().map_err(|error| Failure::usage(format!("header `{name}`: {error}")))?;
        if fields.insert(name.to_string(), json!(value)).is_some() {
            return Err(Failure::usage(format!("header `{name}` is given twice")));
        }
    }
    Ok(fields)
}

/// Sets a member of a body, which may be within others; returns what it was.
fn put(body: &mut Map<String, Value>, path: &[&str], value: Value) -> Option<Value> {
    match path {
        [] => None,
        [name] => body.insert((*name).to_owned(), value),
        [name, rest @ ..] => match body.entry(*name).or_insert_with(|| json!({})) {
            Value::Object(inner) => put(inner, rest, value),
            before => Some(before.clone()),
        },
    }
}

/// Refuses a change of nothing.
///
/// # Errors
/// When the patch is empty.
pub(crate) fn something(patch: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    match patch.is_empty() {
        true => Err(Failure::usage("nothing to change").hint("`--help` shows what can be changed")),
        false => Ok(patch),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use keyward_model::{App, Connection, schemas};

    #[derive(Debug, Parser)]
    struct SetLine<R: Resource> {
        #[command(flatten)]
        set: SetArgs<R>,
    }

    fn patch<R: Resource>(arguments: &[&str]) -> Result<Value, Failure> {
        let line = SetLine::<R>::try_parse_from([&["set", "work"], arguments].concat());
        line.expect("it is parsed").set.members.patch().map(Value::from)
    }

    fn is_parsed(arguments: &[&str]) -> bool {
        let words = [&["set", "work"], arguments].concat();
        SetLine::<Connection>::try_parse_from(words).is_ok()
    }

    #[test]
    fn contradictory_and_invalid_settings_are_refused_without_their_values() {
        for wrong in [
            &[][..],
            &["--header", "canary"],
            &["--header", "Authorization: canary"],
            &["--header", "X-A: canary\n"],
            &["--header", "X-A: canary", "--header", "x-a: 2"],
            &["--header", "X-A: canary", "--clear", "header=X-A"],
            &["--header", "X-A: canary", "--clear", "headers"],
            &["--timeout", "5s", "--clear", "timeout"],
            &["--timeout", "5s", "--clear", "all"],
            &["--clear", "all", "--clear", "retry"],
            &["--rotate-every", "30d", "--clear", "rotate-every"],
        ] {
            let refused = patch::<Connection>(wrong).unwrap_err();
            assert!(!refused.to_string().contains("canary"), "{wrong:?}: {refused}");
        }
        for wrong in ["nothing", "rate_limit", "header=", "header=Host", "", "provider", "app"] {
            assert!(!is_parsed(&["--clear", wrong]), "{wrong}");
        }
        for wrong in [
            ["--timeout", "30"],
            ["--retry", "99"],
            ["--retry-on", "404"],
            ["--concurrency", "many"],
            ["--read-only", "no"],
        ] {
            assert!(!is_parsed(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn options_become_a_merge_patch() {
        let all = "--timeout 90s --retry 2 --retry-on 503,429 --retry-wait-max 5s --rate-limit 100/min --concurrency 7 \
                   --user-agent a/1 --tag a --tag b,c";
        let mut all: Vec<_> = all.split_whitespace().collect();
        all.extend(["--header", "X-Env: prod"]);
        let patched = json!({"tags": ["a", "b,c"], "settings": {
            "timeout": "90s", "rate_limit": "100/min", "concurrency": 7, "user_agent": "a/1",
            "retry": {"attempts": 2, "on": [503, 429], "wait_max": "5s"},
            "headers": {"x-env": "prod"},
        }});
        assert_eq!(patch::<Connection>(&all).unwrap(), patched);
        let some = ["--clear", "rate-limit", "--clear", "header=X-Env", "--retry", "3"];
        let patched = json!({"settings": {
            "rate_limit": null, "headers": {"x-env": null}, "retry": {"attempts": 3},
        }});
        assert_eq!(patch::<Connection>(&some).unwrap(), patched);
        let all = patch::<Connection>(&["--clear", "all", "--clear", "purpose"]).unwrap();
        assert_eq!(all, json!({"settings": null, "purpose": null}));
        let tags = patch::<Connection>(&["--tag", "c", "--clear", "tags"]).unwrap();
        assert_eq!(tags, json!({"tags": ["c"]}));
    }

    #[test]
    fn rules_and_limits_of_database_sessions_become_a_merge_patch() {
        let all = "--statements select,insert --tables orders,sales.* --functions f --role r --rows-max 5 --bytes-max 1000 --audit-statements";
        let patched = json!({"settings": {
            "statements": ["select", "insert"], "tables": ["orders", "sales.*"], "functions": ["f"],
            "role": "r", "rows_max": 5, "bytes_max": 1000, "audit_statements": true,
        }});
        assert_eq!(patch::<Connection>(&all.split(' ').collect::<Vec<_>>()).unwrap(), patched);
        let cleared = ["--clear", "functions", "--clear", "rows-max"];
        let patched = json!({"settings": {"functions": null, "rows_max": null}});
        assert_eq!(patch::<Connection>(&cleared).unwrap(), patched);
    }

    #[test]
    fn one_of_several_values_has_a_name_that_its_member_knows() {
        let set = ["--url", "token=https://t.test/", "--clear", "var=region"];
        let patched = json!({"urls": {"token": "https://t.test/"}, "variables": {"region": null}});
        assert_eq!(patch::<App>(&set).unwrap(), patched);
        let refused = patch::<App>(&["--url", "a=https://t.test/"]).unwrap_err();
        assert!(refused.message().contains("write issuer"), "{refused}");
        for wrong in ["url=nonsense", "var=", "provider", "nonsense"] {
            let line = SetLine::<App>::try_parse_from(["set", "work", "--clear", wrong]);
            assert!(line.is_err(), "{wrong}");
        }
    }

    /// The JSON of an option is decided by the kind of its key; the schema by the type of the member.
    #[test]
    fn the_kind_of_an_option_is_that_of_the_schema() {
        fn check<R: Resource>() {
            let all = schemas();
            let schema = all.iter().find(|it| it.kind.one == R::KIND.one).expect("it has one");
            for member in MemberArgs::<R, Adding>::members() {
                let [name] = member.path[..] else { continue };
                let parts = [&schema.spec, &schema.create_options];
                let of = parts.into_iter().find_map(|part| part.get("properties")?.get(name));
                let Some(of) = of else { continue };
                let types = of["type"].as_array().cloned().unwrap_or(vec![of["type"].clone()]);
                let is = |name: &str| types.contains(&json!(name)) || types == [Value::Null];
                assert!(
                    match member.kind() {
                        JsonKind::Text => is("string"),
                        JsonKind::Number => is("integer"),
                        JsonKind::Flag => is("boolean"),
                        JsonKind::Texts | JsonKind::Numbers => is("array"),
                        JsonKind::Map => is("object"),
                    },
                    "{} {name}: {of}",
                    R::KIND.one
                );
            }
        }
        check::<App>();
        check::<Connection>();
        check::<keyward_model::Agent>();
        check::<keyward_model::DatabaseListener>();
        check::<keyward_model::Hook>();
        check::<keyward_model::Session>();
        check::<keyward_model::Webhook>();
    }
}
