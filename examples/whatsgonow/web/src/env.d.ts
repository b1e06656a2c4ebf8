// What lotse.yaml calls public: baked in when the site is built, different on every stage.
interface ImportMetaEnv {
  readonly VITE_MAPBOX_TOKEN: string
}
