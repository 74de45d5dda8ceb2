//! Long-running operations, whose methods all products share: `google.longrunning.Operations` on every host.
//!
//! Who may look at an operation follows from whose it is: its metadata names the product. None of the products here
//! lets operations be cancelled, as theirs at Google do not
//! (<https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations>).

use std::{sync::Arc, time::Duration};

use apis::google::longrunning::{
    DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation,
    WaitOperationRequest, operations,
};
use kernel::{
    Caller, Error, Method, Mount, Resource, Result,
    operations::Operations,
    paging::{Limits, Page},
};

/// Sizes of a page.
const PAGE: Limits = Limits { usual: 100, most: 1000 };
/// The longest that a call waits for an operation to end.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);

/// A product that starts operations: the package of their metadata, its service, and how its permissions begin.
struct Product {
    package: &'static str,
    service: &'static str,
    permissions: &'static str,
}

const PRODUCTS: [Product; 1] = [Product {
    package: "google.cloud.run.v2.",
    service: "run.googleapis.com",
    permissions: "run.operations",
}];

/// The shared methods.
pub fn methods(operations: Operations) -> Vec<Method> {
    Mount::new(Arc::new(operations))
        .unary(operations::GET_OPERATION, &[], get)
        .unary(operations::LIST_OPERATIONS, &[], list)
        .unary(operations::WAIT_OPERATION, &[], wait)
        .unary(operations::DELETE_OPERATION, &[], delete)
        .done()
}

async fn get(operations: Arc<Operations>, caller: Caller, request: GetOperationRequest) -> Result<Operation> {
    permitted(&operations, &caller, &request.name, "get")
}

async fn wait(
    operations: Arc<Operations>,
    caller: Caller,
    request: WaitOperationRequest,
) -> Result<Operation> {
    permitted(&operations, &caller, &request.name, "wait")?;
    let asked = request.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
    operations.wait(&request.name, asked.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)).await
}

async fn delete(operations: Arc<Operations>, caller: Caller, request: DeleteOperationRequest) -> Result<()> {
    permitted(&operations, &caller, &request.name, "delete")?;
    operations.delete(&request.name).await
}

async fn list(
    operations: Arc<Operations>,
    caller: Caller,
    request: ListOperationsRequest,
) -> Result<ListOperationsResponse> {
    let host = &caller.request().host;
    let product = PRODUCTS
        .iter()
        .find(|product| **host == *product.service || host.ends_with(&format!("-{}", product.service)));
    let product = product.ok_or_else(|| Error::unimplemented("This API lists no operations."))?;
    caller
        .require(&format!("{}.list", product.permissions), &Resource::new(product.service, &*request.name))?;
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&request.name, &request.filter])?;
    let is_its =
        |operation: &Operation| owner(operation).is_some_and(|owner| owner.service == product.service);
    let (operations, next_page_token) = operations.list(&request.name, &page, |operation| is_its(operation));
    Ok(ListOperationsResponse { operations, next_page_token, unreachable: Vec::new() })
}

/// An operation, if the caller may do this with it.
fn permitted(operations: &Operations, caller: &Caller, name: &str, verb: &str) -> Result<Operation> {
    let operation = operations.get(name)?;
    let Some(product) = owner(&operation) else { return Err(Error::internal("an operation of no product")) };
    caller.require(&format!("{}.{verb}", product.permissions), &Resource::new(product.service, name))?;
    Ok(operation)
}

/// Whose operation it is.
fn owner(operation: &Operation) -> Option<&'static Product> {
    let kind = operation.metadata.as_ref()?.type_url.rsplit('/').next()?;
    PRODUCTS.iter().find(|product| kind.starts_with(product.package))
}
