//! A query as Cloud Identity's API takes it: terms joined by `&&`, each of which compares one field with a text.

use super::{
    Fault,
    parse::{Expr, Kind, Operator, parse},
};

/// What one term asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    /// `field == 'text'`
    Is(String, String),
    /// `'text' in field`
    Has(String, String),
    /// `field.startsWith('text')`
    Begins(String, String),
}

/// The terms of a query.
///
/// # Errors
/// What is no expression, or another than these.
pub(crate) fn terms(source: &str) -> Result<Vec<Term>, Fault> {
    let mut terms = Vec::new();
    gather(&parse(source)?, &mut terms)?;
    Ok(terms)
}

fn gather(expr: &Expr, terms: &mut Vec<Term>) -> Result<(), Fault> {
    if let Kind::Binary(Operator::And, left, right) = &expr.kind {
        gather(left, terms)?;
        return gather(right, terms);
    }
    let other = || Fault::new(expr.at, "a query compares fields with texts and joins that with &&");
    terms.push(term(&expr.kind).ok_or_else(other)?);
    Ok(())
}

fn term(kind: &Kind) -> Option<Term> {
    match kind {
        Kind::Binary(Operator::Equal, field, value) => Some(Term::Is(path(field)?, text(value)?)),
        Kind::Binary(Operator::In, value, field) => Some(Term::Has(path(field)?, text(value)?)),
        Kind::Call(Some(field), name, arguments) if name == "startsWith" => match &arguments[..] {
            [value] => Some(Term::Begins(path(field)?, text(value)?)),
            _ => None,
        },
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// `a.b` as it is written.
fn path(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Name(name) => Some(name.clone()),
        Kind::Field(operand, name) => Some(format!("{}.{name}", path(operand)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_gcloud_are_read() {
        let is = |field: &str, text: &str| Term::Is(field.into(), text.into());
        assert_eq!(
            terms("parent==\"customerId/C1\" && \"x/groups.forum\" in labels").unwrap(),
            [is("parent", "customerId/C1"), Term::Has("labels".into(), "x/groups.forum".into())]
        );
        assert_eq!(terms("member_key_id=='a@x.com'").unwrap(), [is("member_key_id", "a@x.com")]);
        assert_eq!(
            terms("display_name.startsWith('Crew')").unwrap(),
            [Term::Begins("display_name".into(), "Crew".into())]
        );
        for other in ["", "a == 1", "a == 'x' || b == 'y'", "a.size('x')", "!('a' in b)", "'a' == 'b'"] {
            assert!(terms(other).is_err(), "{other}");
        }
    }
}
