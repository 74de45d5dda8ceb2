// The script of ../calls.json with Google's Node libraries and no option: node script.js grpc|rest TABLE CALLER.
//
// There is no gRPC library for IAM's administration: its calls go through the REST library in both runs.
'use strict';

const fs = require('fs');
const {SecretManagerServiceClient} = require('@google-cloud/secret-manager');
const {IAMCredentialsClient} = require('@google-cloud/iam-credentials');
const {ProjectsClient} = require('@google-cloud/resource-manager');
const iam = require('@googleapis/iam');

const [transport, path, caller] = process.argv.slice(2);
const options = transport === 'rest' ? {fallback: true} : {};
const clients = {
  secrets: new SecretManagerServiceClient(options),
  credentials: new IAMCredentialsClient(options),
  projects: new ProjectsClient(options),
};
const accounts = iam.iam({
  version: 'v1',
  auth: new iam.auth.GoogleAuth({scopes: ['https://www.googleapis.com/auth/cloud-platform']}),
}).projects.serviceAccounts;
// What the REST library calls the methods.
const accountMethods = {
  CreateServiceAccount: accounts.create.bind(accounts),
  CreateServiceAccountKey: accounts.keys.create.bind(accounts.keys),
  DisableServiceAccountKey: accounts.keys.disable.bind(accounts.keys),
  SetIamPolicy: accounts.setIamPolicy.bind(accounts),
};

async function main() {
  const table = JSON.parse(fs.readFileSync(path, 'utf8'));
  const values = {project: process.env.GOOGLE_CLOUD_PROJECT, caller, ...table.values};
  for (const [index, entry] of table.calls.entries()) {
    let outcome;
    try {
      const answer = await call(entry.call, fill(entry.request, values));
      for (const [name, field] of Object.entries(entry.keep ?? {})) values[name] = at(answer, field);
      const shown = (entry.show ?? []).map(field => [field, at(answer, field)]);
      outcome = ['OK', line(Object.fromEntries(shown))];
    } catch (error) {
      outcome = failure(error);
    }
    console.log([String(index + 1).padStart(2, '0'), entry.call, ...outcome].join(' | '));
  }
}

async function call(what, request) {
  const [service, method] = what.split('.');
  if (service === 'accounts') {
    const {name, resource, ...requestBody} = request;
    return (await accountMethods[method]({name, resource, requestBody})).data;
  }
  const client = clients[service];
  const [answer] = await client[method[0].toLowerCase() + method.slice(1)](parsed(client, method, request));
  return answer;
}

/// The libraries take a field mask as paths and a duration as seconds, not as their JSON text.
function parsed(client, method, request) {
  if (typeof request.updateMask === 'string') request.updateMask = {paths: request.updateMask.split(',')};
  if (typeof request.lifetime === 'string') request.lifetime = {seconds: parseInt(request.lifetime)};
  return request;
}

const codes = {3: 'INVALID_ARGUMENT', 5: 'NOT_FOUND', 6: 'ALREADY_EXISTS', 7: 'PERMISSION_DENIED',
  9: 'FAILED_PRECONDITION', 10: 'ABORTED', 12: 'UNIMPLEMENTED', 13: 'INTERNAL', 14: 'UNAVAILABLE', 16: 'UNAUTHENTICATED'};

function failure(error) {
  const rest = error.response?.data?.error ?? asText(error.cause?.message);
  if (rest) return [rest.status, rest.message, line(rest.details ?? [])];
  if (!(error.code in codes)) throw error;
  // Over gRPC the library unpacks the details.
  const details = (error.statusDetails ?? []).map(detail => typed(detail));
  return [codes[error.code], error.details ?? error.message, line(details)];
}

/// Over REST the gRPC libraries leave the answer as it came, as text in the cause of the error.
function asText(text) {
  return text?.startsWith('{') ? JSON.parse(text).error : undefined;
}

function typed(detail) {
  const type = {'@type': `type.googleapis.com/google.rpc.${detail.constructor.name}`};
  return {...type, ...detail.toJSON?.() ?? detail};
}

function fill(value, values) {
  let text = JSON.stringify(value);
  while (text.includes('${')) text = text.replace(/\$\{(\w+)\}/g, (_, name) => values[name]);
  return JSON.parse(text);
}

/// A field of an answer, in protobuf's JSON form; null when it is absent or empty.
function at(answer, field) {
  for (const name of field.split('.')) answer = answer?.[name];
  if (answer instanceof Uint8Array) return Buffer.from(answer).toString('base64');
  if (answer?.constructor?.name === 'Long') return answer.toString();
  return answer == null || answer.length === 0 ? null : answer;
}

function line(value) {
  const sorted = inner => inner && typeof inner === 'object' && !Array.isArray(inner)
    ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
    : inner;
  return JSON.stringify(value, (_, inner) => sorted(inner));
}

main();
