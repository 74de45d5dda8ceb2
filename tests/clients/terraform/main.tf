terraform {
  required_providers {
    google = {
      source = "hashicorp/google"
    }
  }
}

provider "google" {
  region = "us-central1"
}

data "google_client_config" "here" {}

resource "google_secret_manager_secret" "tide" {
  secret_id = "tide"
  labels    = { sea = "north" }
  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "tide" {
  secret      = google_secret_manager_secret.tide.id
  secret_data = "low water at six"
}

resource "google_service_account" "reader" {
  account_id   = "tide-reader"
  display_name = "Reads the tide"
}

resource "google_project_iam_member" "reader" {
  project = data.google_client_config.here.project
  role    = "roles/secretmanager.secretAccessor"
  member  = google_service_account.reader.member
}

resource "google_cloud_run_v2_service" "hello" {
  name                = "hello"
  location            = "us-central1"
  deletion_protection = false
  template {
    service_account = google_service_account.reader.email
    containers {
      image = "us-docker.pkg.dev/cloudrun/container/hello"
    }
  }
}

output "url" {
  value = google_cloud_run_v2_service.hello.uri
}
