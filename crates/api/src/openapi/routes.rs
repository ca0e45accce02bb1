//! [`Routes`]: the routes of the API, each with the description of what its handler reads and answers. The types of a
//! handler's arguments and of its answer are the description, so that it cannot differ from the code. A parameter of the
//! query that an operation does not have is refused.

use std::future::Future;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use http::Method;

use super::argument::Argument;
use super::draft::DescribedAnswer;
use super::draft::OperationDraft;
use crate::body::no_params;
use crate::handler::boxed;
use crate::state::Admin;

/// Routes and their descriptions.
pub(crate) struct Routes {
    router: Router<Admin>,
    operations: Vec<Operation>,
}

/// The description of one route.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// Below `/api/v1`, with variables in braces.
    pub(crate) path: &'static str,
    /// Unique; generated clients name their functions after it.
    pub(crate) id: &'static str,
    /// One line for people.
    pub(crate) summary: &'static str,
    pub(super) describe: fn(&mut OperationDraft<'_>),
}

/// A handler that describes itself. `T` is the same as of its [`Handler`].
pub(crate) trait Described<T> {
    /// Whether it has parameters in the query.
    const READS_QUERY: bool;

    fn describe(draft: &mut OperationDraft<'_>);
}

macro_rules! methods {
    ($($name:ident $method:ident),+) => {$(
        /// Adds a route. `text`: its id and its summary.
        pub(crate) fn $name<H, T>(
            mut self,
            path: &'static str,
            text: [&'static str; 2],
            handler: H,
        ) -> Self
        where
            H: Handler<T, Admin> + Described<T>,
            T: 'static,
        {
            let ([id, summary], method) = (text, Method::$method);
            let handler = match <H as Described<T>>::READS_QUERY {
                true => boxed(handler),
                false => boxed(handler).checked(no_params),
            };
            self.router = self.router.route(path, on(MethodFilter::$method, handler));
            let describe = <H as Described<T>>::describe;
            self.operations.push(Operation { method, path, id, summary, describe });
            self
        }
    )+};
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }

    // HEAD is answered as GET without its body.
    methods! { get GET, post POST, put PUT, patch PATCH, delete DELETE }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    pub(crate) fn into_router(self) -> Router<Admin> {
        self.router
    }

    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

impl<F, Fut> Described<((),)> for F
where
    F: FnOnce() -> Fut,
    Fut: Future,
    Fut::Output: DescribedAnswer,
{
    const READS_QUERY: bool = false;

    fn describe(draft: &mut OperationDraft<'_>) {
        Fut::Output::describe(draft);
    }
}

macro_rules! described {
    ($($argument:ident),+) => {
        impl<F, Fut, M, $($argument),+> Described<(M, $($argument,)+)> for F
        where
            F: FnOnce($($argument),+) -> Fut,
            Fut: Future,
            Fut::Output: DescribedAnswer,
            $($argument: Argument),+
        {
            const READS_QUERY: bool = $($argument::READS_QUERY)||+;

            fn describe(draft: &mut OperationDraft<'_>) {
                $($argument::describe(draft);)+
                Fut::Output::describe(draft);
            }
        }
    };
}

described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);
