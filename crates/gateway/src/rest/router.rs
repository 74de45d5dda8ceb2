//! Which method a request calls.
//!
//! All templates of all APIs stand in one trie of path segments; which API a request means is asked at its
//! leaves. So a request to a known host and one to an address without a name (as emulator clients send them)
//! walk the same way. A literal goes before `*`, and `*` before `**`; of two equal templates the method that
//! was named first wins. Nothing is allocated but the list of captures.
//!
//! Paths are compared as they were sent, escapes and all: literals hold nothing that clients escape.

use std::borrow::Cow;

use apis::schema::{HttpBinding, MethodId};
use kernel::services::is_shared;

use super::{
    host::{Meaning, meaning},
    mixins,
    query::percent_decode,
    template::{Segment, Span, Template, Variable},
};

/// How many segments of a path are told apart. Whatever follows belongs to the last, which only `**` takes.
const MAX_SEGMENTS: usize = 48;

/// The methods that are served, by host, verb and path. Built once, then only read.
#[derive(Debug)]
pub struct Router {
    apis: Vec<&'static str>,
    routes: Vec<Route>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Route {
    method: usize,
    id: MethodId,
    binding: HttpBinding,
    variables: Vec<Variable>,
    segments: usize,
    many: Option<usize>,
}

#[derive(Debug, Default)]
struct Node {
    literals: Vec<(&'static str, u32)>,
    one: Option<u32>,
    many: Option<u32>,
    leaves: Vec<Leaf>,
}

/// A route that ends at a node.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    /// The API it belongs to; `None` for a mixin, which every API has.
    api: Option<u16>,
    http: &'static str,
    verb: &'static str,
    route: u32,
}

/// What a request calls.
#[derive(Debug)]
pub struct Match<'r, 'q> {
    /// The method, by its place in the list that the router was made of.
    pub method: usize,
    /// The method.
    pub id: MethodId,
    /// The binding that fits.
    pub binding: &'r HttpBinding,
    /// The region in the host name, such as `us-central1`.
    pub region: Option<&'q str>,
    /// The fields in the path: each a field path and its text as it was sent.
    pub(super) captures: Vec<Capture<'q>>,
}

/// A part of a path that fills a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture<'q> {
    pub(super) field: &'static str,
    raw: &'q str,
    span: Span,
}

impl<'q> Capture<'q> {
    /// The text with its escapes taken out; in one that spans segments an escaped slash stays escaped. `None`
    /// when it is not UTF-8.
    pub(super) fn text(&self) -> Option<Cow<'q, str>> {
        percent_decode(self.raw, |byte| self.span == Span::Several && byte == b'/')
    }
}

impl Match<'_, '_> {
    /// The text of the variable that fills this field, escapes taken out.
    pub fn capture(&self, field: &str) -> Option<Cow<'_, str>> {
        self.captures.iter().find(|capture| capture.field == field)?.text()
    }
}

/// Why a request calls nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMatch {
    /// The host is an API of Google's that is not served.
    Host,
    /// No method of the API has such a path, or none with this verb.
    Path,
}

impl Router {
    /// A router over the bindings of these methods. Those of mixins (operations, locations, policies), whose
    /// host is no API's, are served on every host.
    pub fn new(methods: &[MethodId]) -> Self {
        let mut apis: Vec<_> = methods.iter().map(|id| id.host()).filter(|host| !is_shared(host)).collect();
        apis.sort_unstable();
        apis.dedup();
        let mut router = Router { apis, routes: Vec::new(), nodes: vec![Node::default()] };
        for (method, &id) in methods.iter().enumerate() {
            for binding in id.bindings().chain(mixins::bindings(id).iter().copied()) {
                router.mount(method, id, id.host(), binding);
            }
        }
        router
    }

    /// Adds a binding that no table has; a template that is none is left out. The host is one of an API that
    /// the router knows, or any other for all of them.
    pub fn mount(&mut self, method: usize, id: MethodId, host: &str, binding: HttpBinding) {
        let Some(template) = Template::parse(binding.template) else { return };
        let end = template.segments.iter().fold(0, |node, segment| self.step(node, *segment));
        let leaf = Leaf {
            api: self.apis.binary_search(&host).ok().map(|at| at as u16),
            http: binding.verb,
            verb: template.verb,
            route: self.routes.len() as u32,
        };
        let many = template.many();
        let Template { segments, variables, .. } = template;
        self.routes.push(Route { method, id, binding, variables, segments: segments.len(), many });
        if let Some(node) = self.nodes.get_mut(end as usize) {
            node.leaves.push(leaf);
        }
    }

    /// The node behind a segment, made where there is none.
    fn step(&mut self, node: u32, segment: Segment) -> u32 {
        let new = self.nodes.len() as u32;
        let Some(node) = self.nodes.get_mut(node as usize) else { return 0 };
        let next = match segment {
            Segment::Literal(text) => match node.literals.binary_search_by_key(&text, |(text, _)| text) {
                Ok(at) => node.literals[at].1,
                Err(at) => {
                    node.literals.insert(at, (text, new));
                    new
                }
            },
            Segment::One => *node.one.get_or_insert(new),
            Segment::Many => *node.many.get_or_insert(new),
        };
        if next == new {
            self.nodes.push(Node::default());
        }
        next
    }

    /// What a request calls. The host is in lowercase and without a port; the path begins with `/` and has no
    /// query.
    ///
    /// # Errors
    /// [`NoMatch`], which Google answers with 404 in either case, also for a wrong verb.
    pub fn find<'q>(&self, host: &'q str, http: &str, path: &'q str) -> Result<Match<'_, 'q>, NoMatch> {
        let (api, region) = match meaning(&self.apis, host) {
            Meaning::Api(at, region) => (Some(at), region),
            Meaning::Shared => (None, None),
            Meaning::Unknown => return Err(NoMatch::Host),
        };
        let segments = Segments::of(path).ok_or(NoMatch::Path)?;
        // What an API has under a path of its own stands before what all of them have.
        let found = self.search(&segments, api, http, Whose::Own);
        let found = found.or_else(|| self.search(&segments, api, http, Whose::Shared));
        let (route, segments) = found.ok_or(NoMatch::Path)?;
        self.routes.get(route as usize).map(|route| route.matched(&segments, region)).ok_or(NoMatch::Path)
    }

    /// The route of a path, and the path without its verb.
    fn search<'q>(
        &self,
        segments: &Segments<'q>,
        api: Option<u16>,
        http: &str,
        whose: Whose,
    ) -> Option<(u32, Segments<'q>)> {
        let last = segments.text(segments.count - 1);
        let with_verb = last.rfind(':').and_then(|colon| {
            let (cut, verb) = (segments.cut(last.len() - colon), last.get(colon + 1..)?);
            let found = self.walk(0, 0, &cut, &Want { api, whose, http, verb })?;
            Some((found, cut))
        });
        with_verb.or_else(|| {
            let found = self.walk(0, 0, segments, &Want { api, whose, http, verb: "" })?;
            Some((found, segments.clone()))
        })
    }

    fn walk(&self, node: u32, at: usize, path: &Segments<'_>, want: &Want<'_>) -> Option<u32> {
        let node = self.nodes.get(node as usize)?;
        if at == path.count {
            let leaf = node.leaves.iter().find(|leaf| want.takes(leaf));
            return leaf.map(|leaf| leaf.route).or_else(|| self.walk_many(node, at, path, want));
        }
        let text = path.text(at);
        if let Ok(found) = node.literals.binary_search_by_key(&text, |(text, _)| text)
            && let Some(route) = self.walk(node.literals[found].1, at + 1, path, want)
        {
            return Some(route);
        }
        if let Some(next) = node.one
            && !text.is_empty()
            && let Some(route) = self.walk(next, at + 1, path, want)
        {
            return Some(route);
        }
        self.walk_many(node, at, path, want)
    }

    /// The ways on through `**`, which takes as much as it can.
    fn walk_many(&self, node: &Node, at: usize, path: &Segments<'_>, want: &Want<'_>) -> Option<u32> {
        let next = node.many?;
        (at..=path.count).rev().find_map(|end| self.walk(next, end, path, want))
    }
}

/// Whose methods are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The API's own; on a host that all share, everybody's.
    Own,
    /// Those that all APIs have.
    Shared,
}

/// What a leaf must be.
struct Want<'q> {
    api: Option<u16>,
    whose: Whose,
    http: &'q str,
    verb: &'q str,
}

impl Want<'_> {
    #[inline]
    fn takes(&self, leaf: &Leaf) -> bool {
        let is_it = match self.whose {
            Whose::Own => self.api.is_none() || self.api == leaf.api,
            Whose::Shared => leaf.api.is_none(),
        };
        is_it && leaf.http == self.http && leaf.verb == self.verb
    }
}

impl Route {
    fn matched<'q>(&self, path: &Segments<'q>, region: Option<&'q str>) -> Match<'_, 'q> {
        // Whatever stands behind a `**` is as far from the end of the path as from that of the template.
        let shift = |at: usize| match self.many {
            Some(many) if at > many => at + path.count - self.segments,
            _ => at,
        };
        let captures = self.variables.iter().map(|variable| Capture {
            field: variable.field,
            raw: path.between(shift(variable.from), shift(variable.to)),
            span: variable.span,
        });
        let captures = captures.collect();
        Match { method: self.method, id: self.id, binding: &self.binding, region, captures }
    }
}

/// The segments of a path.
#[derive(Clone)]
struct Segments<'q> {
    path: &'q str,
    /// Where each begins.
    starts: [u32; MAX_SEGMENTS],
    count: usize,
}

impl<'q> Segments<'q> {
    fn of(path: &'q str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let mut starts = [1; MAX_SEGMENTS];
        let mut count = 1;
        for slash in memchr::memchr_iter(b'/', rest.as_bytes()).take(MAX_SEGMENTS - 1) {
            starts[count] = u32::try_from(slash).ok()? + 2;
            count += 1;
        }
        Some(Segments { path, starts, count })
    }

    /// The same path without its last bytes.
    fn cut(&self, length: usize) -> Self {
        let end = self.path.len() - length;
        Segments { path: self.path.get(..end).unwrap_or_default(), ..self.clone() }
    }

    fn start(&self, at: usize) -> usize {
        if at < self.count { self.starts[at] as usize } else { self.path.len() + 1 }
    }

    #[inline]
    fn text(&self, at: usize) -> &'q str {
        self.between(at, at + 1)
    }

    /// The text of several segments, with the slashes between them.
    #[inline]
    fn between(&self, from: usize, to: usize) -> &'q str {
        let (start, end) = (self.start(from), self.start(to).saturating_sub(1));
        self.path.get(start..end.max(start)).unwrap_or_default()
    }
}
