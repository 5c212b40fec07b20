{{/* Names, labels and checks that several templates share. */}}

{{- define "ararat.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ararat.keysNamespace" -}}
{{- .Values.keys.namespace | default (printf "%s-keys" .Release.Namespace) -}}
{{- end -}}

{{- define "ararat.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "ararat.labels" -}}
{{ include "ararat.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Whole reference of one part's image: (list root imageValues). A tag may be a digest. */}}
{{- define "ararat.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $tag := $image.tag | default $root.Chart.AppVersion -}}
{{- if hasPrefix "sha256:" $tag -}}
{{- printf "%s@%s" $image.repository $tag -}}
{{- else -}}
{{- printf "%s:%s" $image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* "true" where the location of the release is an Azure one. */}}
{{- define "ararat.azure" -}}
{{- if .Values.location.azure.accountName -}}true{{- end -}}
{{- end -}}

{{/* An agent's affinity, kept off the nodes of the pools before it: (list affinity expressions). */}}
{{- define "ararat.agentAffinity" -}}
{{- $affinity := index . 0 | default dict -}}
{{- $taken := index . 1 -}}
{{- if $taken -}}
{{- if hasKey $affinity "nodeAffinity" -}}
{{- fail "agent.affinity.nodeAffinity and agent.pools exclude each other: give the pool a nodeSelector" -}}
{{- end -}}
{{- $terms := list (dict "matchExpressions" $taken) -}}
{{- $required := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $affinity = merge (dict "nodeAffinity" $required) $affinity -}}
{{- end -}}
{{- with $affinity }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* JSON list of the directories that filesystem locations use; mounted into both parts. */}}
{{- define "ararat.filesystemPaths" -}}
{{- $paths := .Values.extraFilesystemPaths -}}
{{- if and .Values.location.enabled (not (include "ararat.azure" .)) -}}
{{- $paths = prepend $paths .Values.location.filesystem.path | uniq -}}
{{- end -}}
{{- $paths | toJson -}}
{{- end -}}

{{- define "ararat.filesystemMounts" -}}
{{- range $index, $path := include "ararat.filesystemPaths" . | fromJsonArray }}
- name: backups-{{ $index }}
  mountPath: {{ $path | quote }}
  # A share that is mounted later on the node is seen without a restart.
  mountPropagation: HostToContainer
  {{- if and (eq $path $.Values.location.filesystem.path) (eq $.Values.location.accessMode "ReadOnly") }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{- define "ararat.filesystemVolumes" -}}
{{- range $index, $path := include "ararat.filesystemPaths" . | fromJsonArray }}
- name: backups-{{ $index }}
  hostPath:
    path: {{ $path | quote }}
    type: DirectoryOrCreate
{{- end }}
{{- end -}}

{{/* "true" where Azure's workload identity webhook is to log both parts in. */}}
{{- define "ararat.workloadIdentity" -}}
{{- if and (include "ararat.azure" .) (eq .Values.location.azure.authentication "WorkloadIdentity") -}}true{{- end -}}
{{- end -}}

{{/* A service account's annotations: (list root partValues). */}}
{{- define "ararat.serviceAccountAnnotations" -}}
{{- $root := index . 0 -}}
{{- $annotations := deepCopy (index . 1).serviceAccountAnnotations -}}
{{- $identity := $root.Values.location.azure.workloadIdentity -}}
{{- if include "ararat.workloadIdentity" $root -}}
{{- with $identity.clientID }}{{ $_ := set $annotations "azure.workload.identity/client-id" . }}{{ end -}}
{{- with $identity.tenantID }}{{ $_ := set $annotations "azure.workload.identity/tenant-id" . }}{{ end -}}
{{- end -}}
{{- with $annotations }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Mistakes that a schema cannot explain well, each in one sentence. */}}
{{- define "ararat.check" -}}
{{- $azure := .Values.location.azure -}}
{{- if and .Values.location.enabled (include "ararat.azure" .) -}}
{{- if not $azure.container -}}
{{- fail "location.azure.container is not set: name the Blob container that holds the backups" -}}
{{- end -}}
{{- if and (ne $azure.authentication "WorkloadIdentity") (not $azure.credentialsSecret) -}}
{{- fail (printf "location.azure.credentialsSecret is not set: authentication %s needs a Secret in namespace %s" $azure.authentication .Release.Namespace) -}}
{{- end -}}
{{- else if and $azure.container (not (include "ararat.azure" .)) -}}
{{- fail "location.azure.container is set but location.azure.accountName is not: name the storage account" -}}
{{- end -}}
{{- if eq (include "ararat.keysNamespace" .) .Release.Namespace -}}
{{- fail "keys.namespace is the namespace of the release: agents could read the master key there; use another" -}}
{{- end -}}
{{- end -}}

{{/* What both webhooks have in common: (list root path). Equal to controller.restore.webhook. */}}
{{- define "ararat.webhook" -}}
{{- $root := index . 0 -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "ararat.fullname" $root }}-webhook
    namespace: {{ $root.Release.Namespace | quote }}
    path: {{ index . 1 }}
    port: 443
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [{{ index . 2 }}]
    scope: Namespaced
namespaceSelector:
  matchExpressions:
    - key: ararat.dev/restoring
      operator: Exists
failurePolicy: Fail
matchPolicy: Equivalent
sideEffects: None
timeoutSeconds: 5
{{- end -}}
