//! The kinds and root fields of the operations of a document (specification of October 2021, §2.2 to §2.8). Every
//! operation counts, whichever of them `operationName` selects, and each field as if no directive left it out.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{GraphqlToken, Lexer};
use super::{NotUnderstood, OperationKind, RootField};

/// Maximum size of a document in bytes.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Maximum depth of nested brackets, and of inline fragments at the root.
const DEPTH_MAX: usize = 64;

/// Maximum number of operations, of fragments, and of different root fields.
const DEFINITIONS_MAX: usize = 1_000;

/// The root fields of all operations of a document.
///
/// # Errors
/// When the document is too large, is not valid, defines types, or may be read in two ways.
pub(super) fn root_fields(text: &str) -> Result<BTreeSet<RootField>, NotUnderstood> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(NotUnderstood::TooLarge);
    }
    let mut parser = Parser::new(text)?;
    let mut document = GraphqlDocument::default();
    while parser.token.is_some() {
        parser.definition(&mut document)?;
    }
    document.root_fields()
}

/// The definitions of a document.
#[derive(Debug, Default)]
struct GraphqlDocument<'a> {
    operations: Vec<(OperationKind, Selections<'a>)>,
    fragments: BTreeMap<&'a str, Selections<'a>>,
}

/// The selections of an operation or a fragment, without those of their fields. Inline fragments are part of it.
#[derive(Debug, Default)]
struct Selections<'a> {
    fields: BTreeSet<&'a str>,
    fragments: BTreeSet<&'a str>,
}

#[derive(Debug)]
struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that is read next.
    token: Option<GraphqlToken<'a>>,
}

impl<'a> GraphqlDocument<'a> {
    fn root_fields(&self) -> Result<BTreeSet<RootField>, NotUnderstood> {
        let mut found = BTreeSet::new();
        for (kind, selections) in &self.operations {
            let mut names = BTreeSet::new();
            self.collect(selections, &mut names)?;
            found.extend(names.iter().map(|name| RootField { kind: *kind, name: (*name).into() }));
        }
        match found.len() {
            0 => Err(NotUnderstood::Document("no operation")),
            1..=DEFINITIONS_MAX => Ok(found),
            _ => Err(NotUnderstood::TooLarge),
        }
    }

    /// Adds the fields of the selections and of all fragments that they spread. Each fragment is visited once, so that
    /// cycles end.
    fn collect(
        &self,
        selections: &Selections<'a>,
        names: &mut BTreeSet<&'a str>,
    ) -> Result<(), NotUnderstood> {
        let (mut visited, mut waiting) = (BTreeSet::new(), vec![selections]);
        while let Some(selections) = waiting.pop() {
            names.extend(&selections.fields);
            for name in selections.fragments.iter().copied().filter(|name| visited.insert(*name)) {
                let unknown = NotUnderstood::Document("a fragment that is not defined");
                waiting.push(self.fragments.get(name).ok_or(unknown)?);
            }
        }
        Ok(())
    }
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, NotUnderstood> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next()?;
        Ok(Self { lexer, token })
    }

    /// Takes the current token.
    fn take(&mut self) -> Result<Option<GraphqlToken<'a>>, NotUnderstood> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Takes the current token if it is this one.
    fn take_if(&mut self, punctuator: u8) -> Result<bool, NotUnderstood> {
        let is_it = self.token == Some(GraphqlToken::Punctuator(punctuator));
        if is_it {
            self.take()?;
        }
        Ok(is_it)
    }

    fn name(&mut self) -> Result<&'a str, NotUnderstood> {
        match self.take()? {
            Some(GraphqlToken::Name(name)) => Ok(name),
            _ => Err(NotUnderstood::Document("a name is missing")),
        }
    }

    fn definition(&mut self, document: &mut GraphqlDocument<'a>) -> Result<(), NotUnderstood> {
        if document.operations.len() + document.fragments.len() >= DEFINITIONS_MAX {
            return Err(NotUnderstood::TooLarge);
        }
        if self.token == Some(GraphqlToken::Punctuator(b'{')) {
            let selections = self.selections()?;
            document.operations.push((OperationKind::Query, selections));
            return Ok(());
        }
        let word = self.name()?;
        if word == "fragment" {
            let (name, selections) = self.fragment()?;
            return match document.fragments.insert(name, selections) {
                None => Ok(()),
                Some(_) => Err(NotUnderstood::Document("a fragment that is defined twice")),
            };
        }
        let kind = OperationKind::of(word)
            .ok_or(NotUnderstood::Document("a definition that is no operation"))?;
        if let Some(GraphqlToken::Name(_)) = self.token {
            self.take()?;
        }
        self.skip_group(b'(')?;
        self.skip_directives()?;
        let selections = self.selections()?;
        document.operations.push((kind, selections));
        Ok(())
    }

    /// `NAME on TYPE @directives { … }`. Not known: variables of fragments, which are not in the specification.
    fn fragment(&mut self) -> Result<(&'a str, Selections<'a>), NotUnderstood> {
        let name = self.name()?;
        if name == "on" || self.name()? != "on" {
            return Err(NotUnderstood::Document("a fragment without a type"));
        }
        self.name()?;
        self.skip_directives()?;
        Ok((name, self.selections()?))
    }

    fn selections(&mut self) -> Result<Selections<'a>, NotUnderstood> {
        let mut found = Selections::default();
        self.add_selections(&mut found, 0)?;
        Ok(found)
    }

    /// Adds `{ … }`, which has at least one selection.
    fn add_selections(
        &mut self,
        found: &mut Selections<'a>,
        depth: usize,
    ) -> Result<(), NotUnderstood> {
        if depth > DEPTH_MAX {
            return Err(NotUnderstood::TooLarge);
        }
        if !self.take_if(b'{')? {
            return Err(NotUnderstood::Document("an operation without fields"));
        }
        loop {
            match self.token {
                Some(GraphqlToken::Spread) => self.spread(found, depth)?,
                _ => self.field(found)?,
            }
            if self.take_if(b'}')? {
                return Ok(());
            }
        }
    }

    /// `alias: name(arguments) @directives { … }`; the name counts.
    fn field(&mut self, found: &mut Selections<'a>) -> Result<(), NotUnderstood> {
        let first = self.name()?;
        let name = if self.take_if(b':')? { self.name()? } else { first };
        found.fields.insert(name);
        self.skip_group(b'(')?;
        self.skip_directives()?;
        self.skip_group(b'{')
    }

    /// `...NAME`, `... on TYPE { … }` or `... { … }`.
    fn spread(&mut self, found: &mut Selections<'a>, depth: usize) -> Result<(), NotUnderstood> {
        self.take()?;
        if let Some(GraphqlToken::Name(name)) = self.token {
            self.take()?;
            if name != "on" {
                found.fragments.insert(name);
                return self.skip_directives();
            }
            self.name()?;
        }
        self.skip_directives()?;
        self.add_selections(found, depth + 1)
    }

    /// `@name(arguments)`, any number of them.
    fn skip_directives(&mut self) -> Result<(), NotUnderstood> {
        while self.take_if(b'@')? {
            self.name()?;
            self.skip_group(b'(')?;
        }
        Ok(())
    }

    /// Skips a group in brackets that begins with `open`, if there is one. What is in it is not compared with the
    /// grammar: in a valid document its brackets are balanced, and services execute no other.
    fn skip_group(&mut self, open: u8) -> Result<(), NotUnderstood> {
        if self.token != Some(GraphqlToken::Punctuator(open)) {
            return Ok(());
        }
        let mut open = Vec::new();
        loop {
            match self.take()? {
                None => return Err(UNBALANCED),
                Some(GraphqlToken::Punctuator(bracket @ (b'(' | b'[' | b'{'))) => {
                    open.push(bracket)
                }
                Some(GraphqlToken::Punctuator(bracket @ (b')' | b']' | b'}'))) => {
                    if open.pop().map(closing) != Some(bracket) {
                        return Err(UNBALANCED);
                    }
                }
                Some(_) => {}
            }
            match open.len() {
                0 => return Ok(()),
                1..=DEPTH_MAX => {}
                _ => return Err(NotUnderstood::TooLarge),
            }
        }
    }
}

const UNBALANCED: NotUnderstood = NotUnderstood::Document("brackets that are not balanced");

fn closing(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Pieces of documents, valid and not.
    const PIECES: [&str; 30] = [
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ":",
        "@",
        "$",
        "!",
        "=",
        "...",
        "on",
        "query",
        "mutation",
        "fragment",
        "F",
        "a",
        "b",
        "1",
        "-2.5",
        "\"x\"",
        "\"\"\"y\"\"\"",
        "#c\n",
        "#",
        "\"",
        "\n",
        ",",
        "{ a }",
        "{ ...F }",
    ];

    proptest! {
        #[test]
        fn a_mutation_behind_any_valid_document_is_found(pieces in vec(select(&PIECES[..]), 0..40)) {
            let text = pieces.join(" ");
            if let Ok(mut expected) = root_fields(&text) {
                let kind = OperationKind::Mutation;
                expected.insert(RootField { kind, name: "delete".into() });
                prop_assert_eq!(root_fields(&format!("{text}\nmutation {{ delete }}")), Ok(expected));
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let _ = root_fields(&text);
        }
    }

    fn fields(text: &str) -> Result<String, NotUnderstood> {
        let found = root_fields(text)?;
        let texts = found.iter().map(|field| {
            let kind = format!("{:?}", field.kind).to_lowercase();
            format!("{}.{}", &kind[..1], field.name)
        });
        Ok(texts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_mutation_is_found_however_it_is_written() {
        for (text, expected) in [
            ("mutation { delete }", "m.delete"),
            ("mutation{delete}", "m.delete"),
            ("mutation M { read: delete }", "m.delete"),
            ("mutation query { delete }", "m.delete"),
            (
                "mutation M($a: [Int!]! = [1, 2] @d(a: 1)) @d(a: {b: [1]}) { delete(a: $a) @skip(if: true) }",
                "m.delete",
            ),
            ("# query { a }\nmutation # {\n M # }\n { delete }", "m.delete"),
            ("query { a } mutation { delete }", "q.a m.delete"),
            ("{ a } mutation { delete }", "q.a m.delete"),
            ("mutation { ...F } fragment F on Mutation { delete }", "m.delete"),
            (
                "fragment F on Mutation { ...G } fragment G on Mutation { delete ...F } mutation { ...F }",
                "m.delete",
            ),
            ("mutation { ... on Mutation @d { ... { x: delete } } }", "m.delete"),
            ("mutation { ...{ a } ...on Mutation { b } c }", "m.a m.b m.c"),
            (
                "query ($a: S = \"\"\"\n} { a }\n\"\"\") { b(a: \"} mutation { c }\") { d } } mutation { e }",
                "q.b m.e",
            ),
            ("subscription { events }", "s.events"),
            ("query mutation { mutation: query }", "q.query"),
            ("{ a { mutation { delete } } }", "q.a"),
            ("{ on fragment query }", "q.fragment q.on q.query"),
        ] {
            assert_eq!(fields(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_document_that_is_not_executable_is_refused() {
        for text in [
            "",
            "# { a }",
            "fragment F on Query { a }",
            "{ }",
            "{ a",
            "{ a }}",
            "{ a { b }",
            "{ a(b: [1) }",
            "{ a(b: 1 }",
            "{ a: }",
            "{ a: b: c }",
            "{ 1 }",
            "{ \"a\" }",
            "{ $a }",
            "{ ...F }",
            "{ ... }",
            "{ ... on }",
            "{ a @ }",
            "query { a } fragment F on Query { a } fragment F on Query { b }",
            "query { a } fragment on on Query { a }",
            "query { a } fragment F { a }",
            "query { a } fragment F($a: Int) on Query { a }",
            "query",
            "query Q",
            "query Q($a: Int { a }",
            "Query { a }",
            "QUERY { a }",
            "type T { a: Int }",
            "extend type Mutation { a: Int }",
            "schema { query: Mutation } { a }",
            "\"description\" query { a }",
            "\"\"\"description\"\"\" query { a }",
            "query A, B { a }",
            "{ a } b",
        ] {
            assert!(matches!(fields(text), Err(NotUnderstood::Document(_))), "{text}");
        }
    }

    #[test]
    fn depth_size_and_counts_are_limited() {
        let nested =
            |depth: usize| format!("{{ a {} b {} }}", "{ a ".repeat(depth), "}".repeat(depth));
        assert_eq!(fields(&nested(DEPTH_MAX)).as_deref(), Ok("q.a"));
        assert_eq!(fields(&nested(DEPTH_MAX + 1)), Err(NotUnderstood::TooLarge));
        let inline =
            |depth: usize| format!("{{ {} b {} }}", "... { ".repeat(depth), "}".repeat(depth));
        assert_eq!(fields(&inline(DEPTH_MAX)).as_deref(), Ok("q.b"));
        assert_eq!(fields(&inline(DEPTH_MAX + 1)), Err(NotUnderstood::TooLarge));
        assert_eq!(fields(&"{ a } ".repeat(DEFINITIONS_MAX + 1)), Err(NotUnderstood::TooLarge));
        let many: String = (0..=DEFINITIONS_MAX).map(|at| format!("a{at} ")).collect();
        assert_eq!(fields(&format!("{{ {many} }}")), Err(NotUnderstood::TooLarge));
        let long = format!("{{ a }} #{}", "x".repeat(DOCUMENT_BYTES_MAX));
        assert_eq!(fields(&long), Err(NotUnderstood::TooLarge));
        for brackets in ["[", "{", "(", "...{"] {
            assert!(fields(&format!("{{ a(b: {}", brackets.repeat(60_000))).is_err(), "{brackets}");
            assert!(fields(&format!("{{ {}", brackets.repeat(60_000))).is_err(), "{brackets}");
        }
    }
}
