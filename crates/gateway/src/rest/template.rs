//! Path templates of `google.api.http`: `/v1/{name=projects/*/secrets/*}:enable`.

/// One segment of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text.
    Literal(&'static str),
    /// Any one segment.
    One,
    /// Any segments, or none.
    Many,
}

/// A variable, and the segments of the template that it spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// The field it fills, as a path of proto names.
    pub(super) field: &'static str,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) span: Span,
}

/// Whether a variable stands for one segment, whose slashes were escaped, or for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    One,
    Several,
}

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
    pub(super) variables: Vec<Variable>,
    /// What stands behind the last colon, such as `enable`.
    pub(super) verb: &'static str,
}

impl Template {
    /// Takes a template apart; `None` when it is none.
    pub(super) fn parse(text: &'static str) -> Option<Self> {
        let (path, verb) = split_verb(text);
        let mut template = Template { segments: Vec::new(), variables: Vec::new(), verb };
        let mut rest = path.strip_prefix('/')?;
        loop {
            rest = match rest.strip_prefix('{') {
                Some(inner) => {
                    let (variable, after) = inner.split_once('}')?;
                    template.variable(variable);
                    after
                }
                None => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    template.segments.push(segment(rest.get(..end)?));
                    rest.get(end..)?
                }
            };
            if rest.is_empty() {
                return Some(template);
            }
            rest = rest.strip_prefix('/')?;
        }
    }

    fn variable(&mut self, text: &'static str) {
        let (field, pattern) = text.split_once('=').unwrap_or((text, "*"));
        let from = self.segments.len();
        self.segments.extend(pattern.split('/').map(segment));
        let to = self.segments.len();
        let span = if pattern == "*" { Span::One } else { Span::Several };
        self.variables.push(Variable { field, from, to, span });
    }

    /// Where its `**` is.
    pub(super) fn many(&self) -> Option<usize> {
        self.segments.iter().position(|segment| *segment == Segment::Many)
    }
}

fn split_verb(text: &'static str) -> (&'static str, &'static str) {
    let tail = text.rfind(['/', '}']).unwrap_or(0);
    match text.rfind(':') {
        Some(colon) if colon > tail => (&text[..colon], &text[colon + 1..]),
        _ => (text, ""),
    }
}

fn segment(text: &'static str) -> Segment {
    match text {
        "*" => Segment::One,
        "**" => Segment::Many,
        text => Segment::Literal(text),
    }
}
