{{/*
What cannot be rendered as it was meant. Each sentence names the value and says what to write. Takes Values, Release
and Chart, and renders nothing.
*/}}
{{- define "k8s-inventory.check" -}}
{{- include "k8s-inventory.checkImage" . -}}
{{- include "k8s-inventory.checkDestination" . -}}
{{- include "k8s-inventory.checkCredentials" . -}}
{{- include "k8s-inventory.checkRoutes" . -}}
{{- include "k8s-inventory.checkNamespaces" . -}}
{{- include "k8s-inventory.checkFiles" . -}}
{{- end }}

{{- define "k8s-inventory.checkImage" -}}
{{- if not .Values.image.repository -}}
  {{- fail "image.repository is not set: name the repository that holds the agent's image" -}}
{{- end -}}
{{- if regexMatch "^((index\\.|registry-1\\.)?docker\\.io/)?anchore/k8s-inventory$" .Values.image.repository -}}
  {{- fail "image.repository is anchore/k8s-inventory, the image of Anchore's own agent, which has no /livez and would be restarted for ever. Remove image.repository and image.tag from your values; with `helm upgrade --reuse-values` they come from the old release: use --reset-then-reuse-values instead" -}}
{{- end -}}
{{- with .Values.image.digest -}}
  {{- if not (regexMatch "^[a-z0-9]+:[0-9a-f]{32,}$" .) -}}{{- fail "image.digest must be a digest such as sha256: and 64 hexadecimal digits" -}}{{- end -}}
{{- end -}}
{{- end }}

{{- define "k8s-inventory.checkDestination" -}}
{{- if not (or .Values.k8sInventory.anchore.url (include "k8s-inventory.sets" (dict "root" . "names" (list "ANCHORE_K8S_INVENTORY_ANCHORE_URL")))) -}}
  {{- fail "k8sInventory.anchore.url is not set: write the address of the Anchore Enterprise API, such as https://anchore.example.com:8228" -}}
{{- end -}}
{{- if not (or .Values.k8sInventory.kubeconfig.cluster (include "k8s-inventory.sets" (dict "root" . "names" (list "ANCHORE_K8S_INVENTORY_KUBECONFIG_CLUSTER")))) -}}
  {{- fail "k8sInventory.kubeconfig.cluster is not set: give this cluster a name of its own, such as production-eu. Two clusters of one name overwrite each other's inventory in Anchore Enterprise" -}}
{{- end -}}
{{- if regexMatch "^[A-Za-z]+://[^/]*@" (default "" .Values.k8sInventory.anchore.url) -}}
  {{- fail "k8sInventory.anchore.url holds a user or password, which would be readable in a ConfigMap: set k8sInventory.anchore.user and .password instead" -}}
{{- end -}}
{{- $route := list "ANCHORE_K8S_INVENTORY_ANCHORE_URL" "ANCHORE_K8S_INVENTORY_ANCHORE_HTTP_PROXY" "HTTPS_PROXY" "HTTP_PROXY" "https_proxy" "http_proxy" -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.anchorePort) (include "k8s-inventory.sets" (dict "root" . "names" $route)) -}}
  {{- fail "networkPolicy.anchorePort is not set, while extraEnv says where to connect to: write the port of Anchore Enterprise, or of the proxy" -}}
{{- end -}}
{{- with .Values.proxy.https -}}
  {{- if contains "@" . -}}
    {{- fail "proxy.https holds a user or password, which would be readable in a ConfigMap: leave it empty, and set HTTPS_PROXY by extraEnv from a Secret" -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "k8s-inventory.checkCredentials" -}}
{{- if and .Values.useExistingSecret (not .Values.existingSecretName) (not .Values.injectSecretsViaEnv) -}}
  {{- fail "existingSecretName is not set, while useExistingSecret is true: write the name of the Secret that holds ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD" -}}
{{- end -}}
{{- $elsewhere := or .Values.injectSecretsViaEnv .Values.existingSecretName .Values.extraEnvFrom -}}
{{- if not (or $elsewhere (include "k8s-inventory.everyRouteHasItsOwn" .)) -}}
  {{- $ways := "Other ways are existingSecretName, injectSecretsViaEnv, extraEnv, extraEnvFrom, and a user and password of its own in each of k8sInventory.accountRoutes" -}}
  {{- range $key := list "user" "password" -}}
    {{- $variable := printf "ANCHORE_K8S_INVENTORY_ANCHORE_%s" (upper $key) -}}
    {{- if not (or (get $.Values.k8sInventory.anchore $key) (include "k8s-inventory.sets" (dict "root" $ "names" (list $variable (printf "%s_FILE" $variable))))) -}}
      {{- fail (printf "k8sInventory.anchore.%s is not set: write the %s for Anchore Enterprise. %s" $key $key $ways) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Whether there are routes, all with a user and a password, then "true". */}}
{{- define "k8s-inventory.everyRouteHasItsOwn" -}}
{{- $every := not (empty .Values.k8sInventory.accountRoutes) -}}
{{- range $account, $route := .Values.k8sInventory.accountRoutes -}}
  {{- if not (and (include "k8s-inventory.routeHas" (dict "root" $ "account" $account "route" $route "key" "user")) (include "k8s-inventory.routeHas" (dict "root" $ "account" $account "route" $route "key" "password"))) -}}
    {{- $every = false -}}
  {{- end -}}
{{- end -}}
{{- if $every -}}true{{- end -}}
{{- end }}

{{/* Whether a route has the key, as a value, as a file, or by the variable that the agent reads for it, then "true". */}}
{{- define "k8s-inventory.routeHas" -}}
{{- $variable := printf "ANCHORE_K8S_INVENTORY_ACCOUNT_ROUTES_%s_%s" (.account | upper | replace "." "_" | replace "-" "_") (upper .key) -}}
{{- $set := include "k8s-inventory.sets" (dict "root" .root "names" (list $variable (printf "%s_FILE" $variable))) -}}
{{- if or (get .route .key) (get .route (printf "%sFile" .key)) $set -}}true{{- end -}}
{{- end }}

{{- define "k8s-inventory.checkRoutes" -}}
{{- range $account, $route := .Values.k8sInventory.accountRoutes -}}
  {{- $path := printf "k8sInventory.accountRoutes.%s" $account -}}
  {{- range $key := list "user" "password" -}}
    {{- if and (get $route $key) (get $route (printf "%sFile" $key)) -}}
      {{- fail (printf "%s has both %s and %sFile: remove one of them" $path $key $key) -}}
    {{- end -}}
  {{- end -}}
  {{- if not $.Values.extraEnvFrom -}}
    {{- $user := include "k8s-inventory.routeHas" (dict "root" $ "account" $account "route" $route "key" "user") -}}
    {{- $password := include "k8s-inventory.routeHas" (dict "root" $ "account" $account "route" $route "key" "password") -}}
    {{- if ne $user $password -}}
      {{- fail (printf "%s has a %s and no %s: set both, or none to use those of k8sInventory.anchore" $path (empty $user | ternary "password" "user") (empty $user | ternary "user" "password")) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "k8s-inventory.checkNamespaces" -}}
{{- if and (eq (toString .Values.rbac.scope) "namespaces") .Values.rbac.create -}}
  {{- $names := get (include "k8s-inventory.namespaces" . | fromJson) "names" -}}
  {{- if not $names -}}
    {{- fail "k8sInventory.namespaceSelectors.include is empty, while rbac.scope is namespaces: write the names of the namespaces to read" -}}
  {{- end -}}
  {{- range $names -}}
    {{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" .) -}}
      {{- fail (printf "k8sInventory.namespaceSelectors.include holds %q, which is not the name of a namespace" .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "k8s-inventory.checkFiles" -}}
{{- $given := list -}}
{{- range list "inline" "existingConfigMap" "existingSecret" -}}
  {{- if get $.Values.caBundle . -}}{{- $given = append $given (printf "caBundle.%s" .) -}}{{- end -}}
{{- end -}}
{{- if gt (len $given) 1 -}}{{- fail (printf "%s are set: keep one of them" (join " and " $given)) -}}{{- end -}}
{{- with .Values.caBundle.inline -}}
  {{- if not (contains "-----BEGIN CERTIFICATE-----" .) -}}{{- fail "caBundle.inline holds no certificate: write them as PEM" -}}{{- end -}}
{{- end -}}
{{- with include "k8s-inventory.logFolder" . -}}
  {{- if eq . "/" -}}{{- fail "k8sInventory.log.file has no folder that a volume can be mounted at: write a path such as /var/log/anchore/agent.log" -}}{{- end -}}
{{- end -}}
{{- if and .Values.periodic (not (include "k8s-inventory.bytes" (.Values.spool.size | default "1Gi"))) -}}
  {{- fail "spool.size must be a number of bytes, such as 1Gi or 500M" -}}
{{- end -}}
{{- if and .Values.persistent .Values.elects -}}
  {{- fail "spool.persistence.enabled is true and replicaCount is more than 1: a claim serves one replica. Set replicaCount to 1, or turn persistence off" -}}
{{- end -}}
{{- end }}
