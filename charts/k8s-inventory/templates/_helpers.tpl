{{/*
Names, labels and the image. All of these take the root with the values of `k8s-inventory.values`.

Names and the two selector labels are those of the existing agent's chart, so that `helm upgrade` takes its releases
over in place.
*/}}

{{- define "k8s-inventory.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "k8s-inventory.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $combined := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $combined | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* A CronJob appends up to 11 characters to its name. */}}
{{- define "k8s-inventory.cronJobName" -}}
{{- include "k8s-inventory.fullname" . | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/* Of the rights to read: outside the release's namespace, so it is a part of the name. */}}
{{- define "k8s-inventory.readerName" -}}
{{- printf "%s-%s-read-only" .Release.Namespace (include "k8s-inventory.fullname" .) -}}
{{- end }}

{{- define "k8s-inventory.serviceAccountName" -}}
{{- $default := .Values.serviceAccount.create | ternary (include "k8s-inventory.fullname" .) "default" -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end }}

{{- define "k8s-inventory.selectorLabels" -}}
app.kubernetes.io/name: {{ include "k8s-inventory.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The chart's own labels win over the user's. The last four are those that objects of the existing chart have, too. */}}
{{- define "k8s-inventory.labels" -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $own := include "k8s-inventory.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" $chart -}}
{{- $_ := set $own "app" (include "k8s-inventory.fullname" .) -}}
{{- $_ := set $own "chart" $chart -}}
{{- $_ := set $own "heritage" .Release.Service -}}
{{- $_ := set $own "release" .Release.Name -}}
{{- merge $own (default dict .Values.labels) | toYaml -}}
{{- end }}

{{/* Metadata of an object in the release's namespace. Takes the root, the name and, perhaps, annotations of its own. */}}
{{- define "k8s-inventory.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
{{ include "k8s-inventory.commonMetadata" . }}
{{- end }}

{{- define "k8s-inventory.commonMetadata" -}}
labels:
  {{- include "k8s-inventory.labels" .root | nindent 2 }}
{{- with merge (dict) (default dict .annotations) (default dict .root.Values.annotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "k8s-inventory.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest -}}{{- $image = printf "%s@%s" $image . -}}{{- end -}}
{{- $image -}}
{{- end }}

{{/*
Whether one of the given variables is set by `extraEnv`, then "true". Takes the root and the names.
*/}}
{{- define "k8s-inventory.sets" -}}
{{- range .root.Values.extraEnv -}}
  {{- if has .name $.names -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* The namespaces to read by name, each once, as the JSON of a map that holds them; none means all, as the word does. */}}
{{- define "k8s-inventory.namespaces" -}}
{{- $selected := default list .Values.k8sInventory.namespaceSelectors.include -}}
{{- if not $selected -}}
  {{- $selected = default list .Values.k8sInventory.namespaces -}}
  {{- if has "all" $selected -}}{{- $selected = list -}}{{- end -}}
{{- end -}}
{{- dict "names" (uniq $selected) | toJson -}}
{{- end }}

{{/* Key of a route's password in the Secret of the routes: the account where it can be one. Takes the account. */}}
{{- define "k8s-inventory.routeKey" -}}
{{- if and (regexMatch "^[A-Za-z0-9][-._A-Za-z0-9]{0,200}$" .) (not (hasPrefix "sha256-" .)) -}}
{{- . -}}
{{- else -}}
{{- printf "sha256-%s" (sha256sum .) -}}
{{- end -}}
{{- end }}

{{/* The Secret's content of the routes, as YAML. */}}
{{- define "k8s-inventory.routePasswords" -}}
{{- $data := dict -}}
{{- range $account, $route := .Values.k8sInventory.accountRoutes -}}
  {{- with $route.password -}}{{- $_ := set $data (include "k8s-inventory.routeKey" $account) (b64enc .) -}}{{- end -}}
{{- end -}}
{{- with $data -}}{{- toYaml . -}}{{- end -}}
{{- end }}

{{/* Whether the chart makes a Secret of the password, then "true". */}}
{{- define "k8s-inventory.ownSecret" -}}
{{- $elsewhere := or .Values.injectSecretsViaEnv .Values.useExistingSecret .Values.existingSecretName -}}
{{- if and .Values.k8sInventory.anchore.password (not $elsewhere) -}}true{{- end -}}
{{- end }}

{{/* The name of the Secret whose keys become variables of the agent, if there is one. */}}
{{- define "k8s-inventory.secretName" -}}
{{- if include "k8s-inventory.ownSecret" . -}}
{{- include "k8s-inventory.fullname" . -}}
{{- else if not .Values.injectSecretsViaEnv -}}
{{- .Values.existingSecretName -}}
{{- end -}}
{{- end }}

{{/* Bytes of a quantity such as 1Gi, or nothing where it is none. */}}
{{- define "k8s-inventory.bytes" -}}
{{- $powers := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if regexMatch "^[0-9]+(\\.[0-9]+)?([kMGT]|[KMGT]i)?$" . -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- mulf (float64 $number) (float64 (get $powers (trimPrefix $number .))) | floor | printf "%.0f" -}}
{{- end -}}
{{- end }}

{{/*
The folder of the log file, where it needs a volume: it is neither a device nor in a volume of the user. A relative
path begins in /tmp, where the existing agent's image starts it.
*/}}
{{- define "k8s-inventory.logFile" -}}
{{- with .Values.k8sInventory.log.file -}}
{{- hasPrefix "/" . | ternary . (printf "/tmp/%s" (trimPrefix "~/" .)) | clean -}}
{{- end -}}
{{- end }}

{{- define "k8s-inventory.logFolder" -}}
{{- $file := include "k8s-inventory.logFile" . -}}
{{- $held := or (not $file) (regexMatch "^/(dev|proc|sys)/" $file) -}}
{{- range .Values.extraVolumeMounts -}}
  {{- $path := clean (toString .mountPath) -}}
  {{- if or (eq $path $file) (hasPrefix (printf "%s/" (trimSuffix "/" $path)) $file) -}}{{- $held = true -}}{{- end -}}
{{- end -}}
{{- if not $held -}}{{- dir $file -}}{{- end -}}
{{- end }}

{{/* The port of Anchore Enterprise, or of the proxy on the way there. */}}
{{- define "k8s-inventory.anchorePort" -}}
{{- $address := .Values.proxy.https | default .Values.k8sInventory.anchore.url | default "" -}}
{{- $scheme := hasPrefix "https:" (lower $address) | ternary "443" "80" -}}
{{- $host := regexReplaceAll "^([A-Za-z]+://)?([^/]*).*$" $address "${2}" -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" | default $scheme -}}
{{- .Values.networkPolicy.anchorePort | default $port -}}
{{- end }}
