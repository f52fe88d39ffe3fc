/// The options of Cinder 29 by section. They are not misspelt, whether Clinker reads them or not.
enum CinderOptions {
    /// What ignoring an option means.
    enum Effect: Equatable {
        /// Nothing: it tunes programs and libraries that Clinker does not have. One warning names all of them.
        case none
        /// It is a backend's, and is read in the backend's section only.
        case ofBackends
        /// The feature is not served by this release; there is a warning.
        case notServed
        /// Ignoring it would do harm; the file is refused, with the reason.
        case refused(String)
    }

    /// The consequence of setting the option to the value.
    static func effect(_ section: String, _ name: String, _ value: String) -> Effect {
        let isOff = ["", "false", "0", "no", "off", "none", "noop", "<none>"].contains(value.lowercased())
        if section == "DEFAULT", !isOff {
            if name == "cluster" { return .refused("clusters are not served by this release: two nodes would use one backend unprotected") }
        }
        if !isOff, (notServed[section] ?? []).contains(name) { return .notServed }
        return section == "DEFAULT" && isOfBackends(name) ? .ofBackends : .none
    }

    private static let notServed: [String: Set<String>] = [
        "DEFAULT": [
            "api_enable_ssl",
            "image_upload_use_cinder_backend", "log_config_append",
            "scheduler_json_config_location",
            "volume_copy_blkio_cgroup_name", "default_group_type",
        ],
        "key_manager": ["api_class"],
        "profiler": ["enabled"],
        "database": ["slave_connection"],
        "keystone_authtoken": ["delay_auth_decision", "memcache_security_strategy"],
    ]

    /// Of a backend's section, what no driver here needs to notice: the way Cinder's own processes work.
    static let harmlessOfBackends: Set<String> = [
        "driver_data_namespace", "driver_use_ssl", "enable_unsupported_driver", "enforce_multipath_for_image_xfer", "iser_helper",
        "max_over_subscription_ratio", "migration_create_volume_timeout_secs", "num_shell_tries", "num_volume_device_scan_tries",
        "reinit_driver_count", "storage_protocol", "suppress_requests_ssl_warnings", "trace_flags", "unique_fqdn_network",
        "use_multipath_for_image_xfer", "volume_dd_blocksize", "volumes_dir", "lvm_suppress_fd_warnings",
        "num_iser_scan_tries",
    ]

    /// Whether Cinder reads the option in the section.
    static func knows(_ section: String, _ name: String) -> Bool {
        let name = name.contains("-") ? String(decoding: name.utf8.map { $0 == 0x2D ? 0x5F : $0 }, as: UTF8.self) : name
        guard let names = names[section] else { return false }
        return names.contains(Substring(name)) || (sectionsOfAccounts.contains(section) && account.contains(Substring(name)))
            // Where no backend is enabled by name, its options stand in [DEFAULT].
            || (section == "DEFAULT" && Self.names["backend_defaults"]?.contains(Substring(name)) == true)
    }

    /// Whether Cinder reads the option in a backend's section, and only there.
    private static func isOfBackends(_ name: String) -> Bool {
        !harmlessOfBackends.contains(name) && names["backend_defaults"]?.contains(Substring(name)) == true
    }

    /// Whether the section is one of Cinder's.
    static func knows(section: String) -> Bool { names[section] != nil }

    /// Names of Cinder's that are nearest to a misspelt one, for the section.
    static func names(of section: String) -> Set<Substring> {
        (names[section] ?? []).union(sectionsOfAccounts.contains(section) ? account : [])
    }

    private static let sectionsOfAccounts: Set<String> = [
        "barbican", "barbican_service_user", "glance", "key_manager", "keystone_authtoken", "nova", "service_user", "vault",
    ]

    private static func words(_ text: String) -> Set<Substring> { Set(text.split(whereSeparator: \.isWhitespace)) }

    /// How a service says who it is to another.
    private static let account = words(
        """
        auth_plugin auth_section auth_type auth_url username user_id user_name password user_domain_name user_domain_id
        project_name project_id project_domain_name project_domain_id domain_id domain_name default_domain_id
        default_domain_name trust_id system_scope tenant_name tenant_id application_credential_id application_credential_name
        application_credential_secret cafile certfile keyfile insecure timeout region_name collect_timing split_loggers
        tls_min_version tls_ciphers valid_interfaces interface endpoint_override service_name service_type token admin_user
        admin_password admin_tenant_name identity_uri auth_host auth_port auth_protocol auth_uri auth_version signing_dir
        connect_retries connect_retry_delay status_code_retries status_code_retry_delay min_version max_version
        """)

    private static let names: [String: Set<Substring>] = [
        "DEFAULT": words(
            """
            acs5000_copy_interval acs5000_multiattach acs5000_volpool_name allocated_capacity_weight_multiplier
            allow_availability_zone_fallback allow_compression_on_image_upload allowed_direct_url_schemes api_enable_ssl
            api_paste_config api_rate_limit as13000_ipsan_pools as13000_meta_pool as13000_token_available_time auth_strategy
            az_cache_duration backdoor_port backdoor_socket backend_availability_zone backend_stats_polling_interval backend_url
            backup_api_class backup_ceph_chunk_size backup_ceph_conf backup_ceph_image_journals backup_ceph_max_snapshots
            backup_ceph_pool backup_ceph_stripe_count backup_ceph_stripe_unit backup_ceph_user backup_compression_algorithm
            backup_container backup_create_containers backup_driver backup_driver_init_check_interval
            backup_driver_stats_polling_interval backup_driver_status_check_interval backup_enable_progress_timer backup_file_size
            backup_manager backup_metadata_version backup_mount_attempts backup_mount_options
            backup_mount_point_base backup_name_template backup_native_threads_pool_size backup_object_number_per_notification
            backup_posix_path backup_s3_block_size backup_s3_ca_cert_file backup_s3_enable_progress_timer backup_s3_endpoint_url
            backup_s3_http_proxy backup_s3_https_proxy backup_s3_max_pool_connections backup_s3_md5_validation backup_s3_object_size
            backup_s3_retry_max_attempts backup_s3_retry_mode backup_s3_sse_customer_algorithm backup_s3_sse_customer_key
            backup_s3_store_access_key backup_s3_store_bucket backup_s3_store_secret_key backup_s3_timeout backup_s3_verify_ssl
            backup_service_inithost_offload backup_sha_block_size_bytes backup_share backup_swift_auth backup_swift_auth_insecure
            backup_swift_auth_url backup_swift_auth_version backup_swift_block_size backup_swift_ca_cert_file backup_swift_container
            backup_swift_create_storage_policy backup_swift_enable_progress_timer backup_swift_key backup_swift_object_size
            backup_swift_project backup_swift_project_domain backup_swift_region_name backup_swift_retry_attempts
            backup_swift_retry_backoff backup_swift_service_auth backup_swift_tenant backup_swift_url backup_swift_user
            backup_swift_user_domain backup_timer_interval backup_use_same_host backup_use_temp_snapshot backup_workers
            capacity_weight_multiplier chap_password chap_password_len chap_username chiscsi_conf cinder_internal_tenant_project_id
            cinder_internal_tenant_user_id client_socket_timeout clone_volume_timeout cloned_volume_same_az cluster collect_timing
            compression_format compute_api_class consistencygroup_api_class control_exchange datera_503_interval datera_503_timeout
            datera_api_port datera_api_version datera_debug datera_debug_replica_count_override datera_disable_extended_metadata
            datera_disable_profiler datera_disable_template_override datera_enable_image_cache datera_image_cache_volume_type_id
            datera_ldap_server datera_tenant_id datera_volume_type_defaults db_backend debug default_availability_zone
            default_group_type default_log_levels default_sandstone_target_ips default_volume_type disk_geometry driver_client_cert
            driver_client_cert_key driver_data_namespace driver_ssl_cert_path driver_ssl_cert_verify driver_use_ssl dsware_isthin
            dsware_manager dsware_rest_url dsware_storage_pools enable_force_upload enable_new_services enable_unsupported_driver
            enabled_backends enforce_multipath_for_image_xfer executor_thread_pool_size fatal_deprecations filter_function
            fsc_clone_volume_timeout fusionstorageagent glance_api_insecure glance_api_servers glance_api_ssl_compression
            glance_api_version glance_ca_certificates_file glance_catalog_info glance_certfile glance_core_properties glance_keyfile
            glance_num_retries glance_request_timeout glusterfs_backup_mount_point glusterfs_backup_share goodness_function
            graceful_shutdown_timeout group_api_class hitachi_mirror_auth_password hitachi_mirror_auth_user
            hitachi_mirror_compute_target_ports hitachi_mirror_ldev_range hitachi_mirror_pair_target_number hitachi_mirror_pool
            hitachi_mirror_rest_api_ip hitachi_mirror_rest_api_port hitachi_mirror_rest_pair_target_ports
            hitachi_mirror_rest_password hitachi_mirror_rest_user hitachi_mirror_snap_pool hitachi_mirror_ssl_cert_path
            hitachi_mirror_ssl_cert_verify hitachi_mirror_storage_id hitachi_mirror_target_ports hitachi_mirror_use_chap_auth
            hitachi_path_group_id hitachi_quorum_disk_id hitachi_replication_copy_speed hitachi_replication_journal_creation_speed
            hitachi_replication_journal_overflow_tolerance hitachi_replication_journal_path_failure_tolerance
            hitachi_replication_journal_size hitachi_replication_journal_transfer_speed hitachi_replication_journal_use_cache
            hitachi_replication_mun hitachi_replication_number hitachi_replication_status_check_long_interval
            hitachi_replication_status_check_short_interval hitachi_replication_status_check_timeout
            hitachi_set_mirror_reserve_attribute host image_compress_on_upload image_conversion_address_space_limit
            image_conversion_cpu_limit image_conversion_dir image_conversion_disable image_introspection_address_space_limit
            image_introspection_cpu_limit image_upload_use_cinder_backend image_upload_use_internal_tenant
            image_volume_cache_enabled image_volume_cache_max_count image_volume_cache_max_size_gb infortrend_cli_cache
            infortrend_cli_max_retries infortrend_cli_path infortrend_cli_timeout infortrend_iqn_prefix infortrend_pools_name
            infortrend_slots_a_channels_id infortrend_slots_b_channels_id init_host_max_objects_retrieval
            initiator_assign_sandstone_target_ip instance_format instance_uuid_format instorage_mcs_allow_tenant_qos
            instorage_mcs_iscsi_chap_enabled instorage_mcs_localcopy_rate instorage_mcs_localcopy_timeout
            instorage_mcs_vol_autoexpand instorage_mcs_vol_compression instorage_mcs_vol_grainsize instorage_mcs_vol_intier
            instorage_mcs_vol_iogrp instorage_mcs_vol_rsize instorage_mcs_vol_warning instorage_mcs_volpool_name
            instorage_san_secondary_ip iops_for_image_migration iscsi_helper iscsi_secondary_ip_addresses iscsi_target_flags
            iscsi_write_cache iser_helper iser_ip_address iser_port iser_target_prefix java_path jovian_block_size
            jovian_ignore_tpath jovian_pool jovian_recovery_delay keystone_catalog_info kioxia_block_size kioxia_cafile
            kioxia_desired_bw_per_gb kioxia_desired_iops_per_gb kioxia_max_bw_per_gb kioxia_max_iops_per_gb
            kioxia_max_replica_down_time kioxia_num_replicas kioxia_provisioning_type kioxia_same_rack_allowed
            kioxia_snap_reserved_space_percentage kioxia_snap_vol_reserved_space_percentage kioxia_snap_vol_span_allowed
            kioxia_span_allowed kioxia_token kioxia_url kioxia_vol_reserved_space_percentage kioxia_writable lock_path log_color
            log_config log_config_append log_date_format log_dir log_file log_options log_rotate_interval log_rotate_interval_type
            log_rotation_type logdir logfile logging_context_format_string logging_debug_format_suffix logging_default_format_string
            logging_exception_prefix logging_user_identity_format manager_ips max_age max_header_line max_logfile_count
            max_logfile_size_mb max_over_subscription_ratio message_reap_interval message_ttl migration_create_volume_timeout_secs
            monkey_patch monkey_patch_modules my_ip no_snapshot_gb_quota notification_driver notification_topics num_iser_scan_tries
            num_shell_tries num_volume_device_scan_tries nvme_connect_port nvmeof_conn_info_version nvmet_ns_id nvmet_port_id
            os_region_name osapi_max_limit osapi_volume_base_url osapi_volume_ext_list osapi_volume_extension osapi_volume_listen
            osapi_volume_listen_port osapi_volume_use_ssl osapi_volume_workers per_volume_size_limit periodic_fuzzy_delay
            periodic_interval pool_id_filter pool_type project_id_regex public_endpoint publish_errors quota_backup_gigabytes
            quota_backups quota_driver quota_gigabytes quota_groups quota_snapshots quota_volumes rate_limit_burst
            rate_limit_except_level rate_limit_interval reinit_driver_count replication_device report_discard_supported
            report_interval reservation_clean_interval reservation_expire reserved_image_namespaces reserved_percentage
            resource_query_filters_file restore_discard_excess_bytes rootwrap_config rpc_backend rpc_conn_pool_size rpc_ping_enabled
            rpc_poll_timeout rpc_response_timeout rpc_thread_pool_size run_external_periodic_tasks san_hosts sandstone_pool
            scheduler_default_filters scheduler_default_weighers scheduler_driver scheduler_driver_init_wait_time
            scheduler_host_manager scheduler_json_config_location scheduler_manager scheduler_max_attempts scheduler_weight_handler
            scst_target_driver scst_target_iqn_name secure_proxy_ssl_header service_down_time snapshot_name_template
            snapshot_same_host split_loggers ssh_hosts_key_file state_path storage_availability_zone storage_protocol
            strict_ssh_host_key_policy swift_catalog_info syslog_log_facility target_helper target_ip_address target_port
            target_prefix target_protocol target_secondary_ip_addresses tcp_keepalive tcp_keepalive_count tcp_keepalive_interval
            tcp_keepidle trace_flags transfer_api_class transport_url unique_fqdn_network until_refresh use_chap_auth
            use_default_quota_class use_eventlog use_forwarded_for use_journal use_json use_multipath_for_image_xfer use_stderr
            use_syslog verbose verify_glance_signatures vmdk_allowed_types volume_api_class volume_backend_name volume_clear
            volume_clear_ionice volume_clear_size volume_copy_blkio_cgroup_name volume_copy_bps_limit volume_dd_blocksize
            volume_manager volume_name_template volume_number_multiplier volume_service_inithost_offload volume_transfer_key_length
            volume_transfer_salt_length volume_usage_audit_period volume_usage_size_limit volumes_dir vrts_lun_sparse
            vrts_target_config wsgi_default_pool_size wsgi_keep_alive wsgi_log_format wsgi_server_debug zoning_mode
            """),
        "audit_middleware_notifications": words(
            """
            driver topics transport_url use_oslo_messaging
            """),
        "backend_defaults": words(
            """
            api_port auth_method auto_calc_max_oversubscription_ratio backend_availability_zone backend_host
            backend_native_threads_pool_size chap chap_password chap_username check_max_pool_luns_threshold chiscsi_conf
            cinder_eternus_config_file cinder_huawei_conf_file connection_type cycle_period_seconds datacore_api_timeout
            datacore_disk_failed_delay datacore_disk_pools datacore_disk_type datacore_fc_unallowed_targets
            datacore_iscsi_chap_storage datacore_iscsi_unallowed_targets datacore_storage_profile default_timeout
            deferred_deletion_delay deferred_deletion_purge_interval dell_api_async_rest_timeout dell_api_sync_rest_timeout
            dell_sc_api_port dell_sc_server_folder dell_sc_ssn dell_sc_verify_cert dell_sc_volume_folder dell_server_os
            destroy_empty_storage_group disable_discovery disk_geometry dpl_pool dpl_port driver_client_cert driver_client_cert_key
            driver_data_namespace driver_ssl_cert_path driver_ssl_cert_verify driver_use_ssl ds8k_devadd_unitadd_mapping
            ds8k_host_type ds8k_ssid_prefix enable_deferred_deletion enable_unsupported_driver enforce_multipath_for_image_xfer
            excluded_domain_ip excluded_domain_ips expiry_thres_minutes export_ports extra_capabilities filter_function
            force_delete_lun_in_storagegroup fujitsu_passwordless fujitsu_private_key_path fujitsu_use_cli_copy goodness_function
            gpfs_hosts gpfs_hosts_key_file gpfs_images_dir gpfs_images_share_mode gpfs_max_clone_depth gpfs_mount_point_base
            gpfs_private_key gpfs_sparse_volumes gpfs_ssh_port gpfs_storage_pool gpfs_strict_host_key_policy gpfs_user_login
            gpfs_user_password hitachi_async_copy_check_interval hitachi_compute_target_ports hitachi_copy_check_interval
            hitachi_copy_speed hitachi_csv_delete_timeout hitachi_discard_zero_page hitachi_drs_default_csv
            hitachi_exec_retry_interval hitachi_extend_snapshot_volumes hitachi_extend_timeout hitachi_group_create
            hitachi_group_delete hitachi_group_name_format hitachi_host_mode_options hitachi_ldev_range hitachi_lock_timeout
            hitachi_lun_retry_interval hitachi_lun_timeout hitachi_manage_drs_volumes hitachi_pair_target_number hitachi_pool
            hitachi_pools hitachi_port_scheduler hitachi_report_discard_support hitachi_rest_another_ldev_mapped_retry_timeout
            hitachi_rest_connect_timeout hitachi_rest_disable_io_wait hitachi_rest_get_api_response_timeout
            hitachi_rest_job_api_response_timeout hitachi_rest_keep_session_loop_interval hitachi_rest_max_request_workers
            hitachi_rest_pair_target_ports hitachi_rest_server_busy_timeout hitachi_rest_tcp_keepalive hitachi_rest_tcp_keepcnt
            hitachi_rest_tcp_keepidle hitachi_rest_tcp_keepintvl hitachi_rest_timeout hitachi_rest_use_object_caching
            hitachi_restore_timeout hitachi_snap_pool hitachi_state_transition_timeout hitachi_storage_id hitachi_target_ports
            hitachi_use_drs_volumes hitachi_vcp_delete_sleep_interval hitachi_vcp_delete_timeout hitachi_zoning_request host_group
            hpe3par_api_url hpe3par_cpg hpe3par_cpg_snap hpe3par_debug hpe3par_iscsi_chap_enabled hpe3par_iscsi_ips hpe3par_password
            hpe3par_snapshot_expiration hpe3par_snapshot_retention hpe3par_target_nsp hpe3par_username
            hpexp_async_copy_check_interval hpexp_compute_target_ports hpexp_copy_check_interval hpexp_copy_speed
            hpexp_csv_delete_timeout hpexp_discard_zero_page hpexp_drs_default_csv hpexp_exec_retry_interval hpexp_extend_timeout
            hpexp_group_create hpexp_group_delete hpexp_host_mode_options hpexp_ldev_range hpexp_lock_timeout
            hpexp_lun_retry_interval hpexp_lun_timeout hpexp_manage_drs_volumes hpexp_pool hpexp_pools hpexp_report_discard_support
            hpexp_rest_another_ldev_mapped_retry_timeout hpexp_rest_connect_timeout hpexp_rest_disable_io_wait
            hpexp_rest_get_api_response_timeout hpexp_rest_job_api_response_timeout hpexp_rest_keep_session_loop_interval
            hpexp_rest_max_request_workers hpexp_rest_server_busy_timeout hpexp_rest_tcp_keepalive hpexp_rest_tcp_keepcnt
            hpexp_rest_tcp_keepidle hpexp_rest_tcp_keepintvl hpexp_rest_timeout hpexp_rest_use_object_caching hpexp_restore_timeout
            hpexp_snap_pool hpexp_state_transition_timeout hpexp_storage_id hpexp_target_ports hpexp_use_drs_volumes
            hpexp_vcp_delete_sleep_interval hpexp_vcp_delete_timeout hpexp_zoning_request hpmsa_api_protocol hpmsa_backend_name
            hpmsa_backend_type hpmsa_iscsi_ips hpmsa_pool_name hpmsa_pool_type hpmsa_verify_certificate
            hpmsa_verify_certificate_path hypermetro_devices ignore_pool_full_threshold image_upload_use_cinder_backend
            image_upload_use_internal_tenant image_volume_cache_enabled image_volume_cache_max_count image_volume_cache_max_size_gb
            included_domain_ips infinidat_iscsi_netspaces infinidat_pool_name infinidat_storage_protocol infinidat_use_compression
            initiator_auto_deregistration initiator_auto_registration initiator_check interval io_port_list iscsi_helper
            iscsi_initiators iscsi_ip_address iscsi_port iscsi_protocol iscsi_secondary_ip_addresses iscsi_target_flags
            iscsi_target_prefix iscsi_write_cache iser_helper iser_ip_address iser_port iser_target_prefix lba_format
            lenovo_api_protocol lenovo_backend_name lenovo_backend_type lenovo_iscsi_ips lenovo_pool_name lenovo_pool_type
            lenovo_verify_certificate lenovo_verify_certificate_path lightos_api_address lightos_api_port
            lightos_api_service_snapshots_max_calls lightos_api_service_timeout lightos_default_compression_enabled
            lightos_default_num_replicas lightos_jwt lightos_use_ipacl linstor_autoplace_count linstor_controller_diskless
            linstor_default_blocksize linstor_default_storage_pool_name linstor_default_uri linstor_default_volume_group_name
            linstor_volume_downsize_factor load_balance load_balance_real_time load_data_format load_look_back
            load_look_back_real_time lss_range_for_cg lvm_conf_file lvm_mirrors lvm_share_target lvm_suppress_fd_warnings lvm_type
            macrosan_client macrosan_client_default macrosan_fc_keep_mapped_ports macrosan_fc_use_sp_port_nr
            macrosan_force_unmap_itl macrosan_log_timing macrosan_pool macrosan_replication_destination_ports
            macrosan_replication_ipaddrs macrosan_replication_password macrosan_replication_username macrosan_sdas_ipaddrs
            macrosan_sdas_password macrosan_sdas_username macrosan_snapshot_resource_ratio macrosan_thin_lun_extent_size
            macrosan_thin_lun_high_watermark macrosan_thin_lun_low_watermark management_ips max_luns_per_storage_group
            max_over_subscription_ratio max_resource_count metro_domain_name metro_san_address metro_san_password metro_san_user
            metro_storage_pools migrate_from_flashcopy nas_host nas_login nas_mount_options nas_password nas_private_key
            nas_secure_file_operations nas_secure_file_permissions nas_share_path nas_ssh_port nas_volume_prov_type naviseccli_path
            nec_v_async_copy_check_interval nec_v_compute_target_ports nec_v_copy_check_interval nec_v_copy_speed
            nec_v_csv_delete_timeout nec_v_discard_zero_page nec_v_drs_default_csv nec_v_exec_retry_interval nec_v_extend_timeout
            nec_v_group_create nec_v_group_delete nec_v_host_mode_options nec_v_ldev_range nec_v_lock_timeout
            nec_v_lun_retry_interval nec_v_lun_timeout nec_v_manage_drs_volumes nec_v_pool nec_v_pools nec_v_report_discard_support
            nec_v_rest_another_ldev_mapped_retry_timeout nec_v_rest_connect_timeout nec_v_rest_disable_io_wait
            nec_v_rest_get_api_response_timeout nec_v_rest_job_api_response_timeout nec_v_rest_keep_session_loop_interval
            nec_v_rest_max_request_workers nec_v_rest_server_busy_timeout nec_v_rest_tcp_keepalive nec_v_rest_tcp_keepcnt
            nec_v_rest_tcp_keepidle nec_v_rest_tcp_keepintvl nec_v_rest_timeout nec_v_rest_use_object_caching nec_v_restore_timeout
            nec_v_snap_pool nec_v_state_transition_timeout nec_v_storage_id nec_v_target_ports nec_v_use_drs_volumes
            nec_v_vcp_delete_sleep_interval nec_v_vcp_delete_timeout nec_v_zoning_request netapp_allow_zapi_fallback
            netapp_api_trace_pattern netapp_async_rest_timeout netapp_ca_certificate_file netapp_certificate_file
            netapp_certificate_host_validation netapp_consistent_replication netapp_copyoffload_tool_path
            netapp_dedupe_cache_expiry_duration netapp_disaggregated_platform netapp_driver_reports_provisioned_capacity
            netapp_host_type netapp_login netapp_lun_clone_busy_interval netapp_lun_clone_busy_timeout netapp_lun_copy_timeout
            netapp_lun_ostype netapp_lun_space_reservation netapp_migrate_volume_timeout netapp_namespace_ostype
            netapp_nfs_image_cache_cleanup_interval netapp_password netapp_performance_cache_expiry_duration
            netapp_pool_name_search_pattern netapp_private_key_file netapp_proximal_nodes netapp_replication_aggregate_map
            netapp_replication_policy netapp_replication_volume_online_timeout netapp_server_hostname netapp_server_port
            netapp_size_multiplier netapp_snapmirror_quiesce_timeout netapp_ssl_cert_path netapp_ssl_cert_verify
            netapp_storage_family netapp_storage_pools netapp_storage_protocol netapp_transport_type netapp_use_legacy_client
            netapp_volume_list netapp_vserver nexenta_blocksize nexenta_chunksize nexenta_client_address nexenta_dataset_compression
            nexenta_dataset_dedup nexenta_dataset_description nexenta_encryption nexenta_folder nexenta_group_snapshot_template
            nexenta_host nexenta_host_group_prefix nexenta_iops_limit nexenta_iscsi_service nexenta_iscsi_target_host_group
            nexenta_iscsi_target_portal_groups nexenta_iscsi_target_portal_port nexenta_iscsi_target_portals
            nexenta_lu_writebackcache_disabled nexenta_lun_container nexenta_luns_per_target nexenta_mount_point_base
            nexenta_nbd_symlinks_dir nexenta_nms_cache_volroot nexenta_ns5_blocksize nexenta_origin_snapshot_template
            nexenta_password nexenta_qcow2_volumes nexenta_replication_count nexenta_rest_address nexenta_rest_backoff_factor
            nexenta_rest_connect_timeout nexenta_rest_password nexenta_rest_port nexenta_rest_protocol nexenta_rest_read_timeout
            nexenta_rest_retry_count nexenta_rest_user nexenta_rrmgr_compression nexenta_rrmgr_connections
            nexenta_rrmgr_tcp_buf_size nexenta_shares_config nexenta_sparse nexenta_sparsed_volumes nexenta_target_group_prefix
            nexenta_target_prefix nexenta_use_https nexenta_user nexenta_volume nexenta_volume_group nfs_mount_attempts
            nfs_mount_options nfs_mount_point_base nfs_qcow2_volumes nfs_shares_config nfs_snapshot_support nfs_sparsed_volumes
            nimble_pool_name nimble_subnet_label nimble_verify_cert_path nimble_verify_certificate num_iser_scan_tries
            num_shell_tries num_volume_device_scan_tries nvmeof_conn_info_version nvmet_ns_id nvmet_port_id pool_max_resource_count
            pool_name port_group_load_metric port_load_metric powerflex_allow_migration_during_rebuild
            powerflex_allow_non_padded_volumes powerflex_max_image_cache_vtree_size powerflex_max_over_subscription_ratio
            powerflex_rest_server_port powerflex_round_volume_capacity powerflex_server_api_version powerflex_storage_pools
            powerflex_unmap_volume_before_deletion powermax_array powermax_array_tag_list powermax_port_group_name_template
            powermax_port_groups powermax_service_level powermax_short_host_name_template powermax_srp powerstore_appliances
            powerstore_host_connectivity powerstore_nvme powerstore_ports proxy pure_api_token
            pure_automatic_max_oversubscription_ratio pure_eradicate_on_delete pure_ghost_pod_name pure_host_personality
            pure_iscsi_cidr pure_iscsi_cidr_list pure_nvme_cidr pure_nvme_cidr_list pure_nvme_transport
            pure_replica_interval_default pure_replica_retention_long_term_default pure_replica_retention_long_term_per_day_default
            pure_replica_retention_short_term_default pure_replication_pg_name pure_replication_pod_name pure_safemode_enabled
            pure_trisync_enabled pure_trisync_pg_name pvme_iscsi_ips pvme_pool_name qnap_management_url qnap_poolname
            qnap_storage_protocol quobyte_client_cfg quobyte_mount_point_base quobyte_overlay_volumes quobyte_qcow2_volumes
            quobyte_sparsed_volumes quobyte_volume_from_snapshot_cache quobyte_volume_url rados_connect_timeout
            rados_connection_interval rados_connection_retries rbd_ceph_conf rbd_cluster_name rbd_concurrent_flatten_operations
            rbd_exclusive_cinder_pool rbd_flatten_volume_from_snapshot rbd_iscsi_api_debug rbd_iscsi_api_password rbd_iscsi_api_url
            rbd_iscsi_api_user rbd_iscsi_target_iqn rbd_keyring_conf rbd_max_clone_depth rbd_pool rbd_secret_uuid
            rbd_store_chunk_size rbd_user remove_empty_host replication_connect_timeout replication_device report_discard_supported
            report_dynamic_total_capacity reserved_percentage rest_api_call_connect_timeout rest_api_call_read_timeout
            rest_api_connect_timeout rest_api_read_timeout retries san_api_port san_clustername san_ip san_is_local san_login
            san_password san_private_key san_ssh_port san_thin_provision scst_target_driver scst_target_iqn_name seagate_iscsi_ips
            seagate_pool_name seagate_pool_type secondary_san_ip secondary_san_login secondary_san_password secondary_sc_api_port
            sf_account_prefix sf_allow_tenant_qos sf_api_port sf_api_request_timeout sf_cluster_pairing_timeout sf_emulate_512
            sf_enable_vag sf_provisioning_calc sf_svip sf_volume_clone_timeout sf_volume_create_timeout sf_volume_pairing_timeout
            sf_volume_prefix snapvx_unlink_symforce spdk_max_queue_depth spdk_rpc_ip spdk_rpc_password spdk_rpc_port
            spdk_rpc_protocol spdk_rpc_username ssh_conn_timeout ssh_max_pool_conn ssh_min_pool_conn storage_protocol
            storage_vnx_authentication_type storage_vnx_pool_names storage_vnx_security_file_dir storpool_replication
            storpool_template storwize_peer_pool storwize_portset storwize_preferred_host_site storwize_san_secondary_ip
            storwize_svc_allow_tenant_qos storwize_svc_aux_mirror_pool storwize_svc_clean_rate storwize_svc_flashcopy_rate
            storwize_svc_flashcopy_timeout storwize_svc_iscsi_chap_enabled storwize_svc_mirror_pool
            storwize_svc_multihostmap_enabled storwize_svc_multipath_enabled storwize_svc_retain_aux_volume
            storwize_svc_src_child_pool storwize_svc_stretched_cluster_partner storwize_svc_target_child_pool
            storwize_svc_vol_autoexpand storwize_svc_vol_compression storwize_svc_vol_easytier storwize_svc_vol_grainsize
            storwize_svc_vol_iogrp storwize_svc_vol_nofmtdisk storwize_svc_vol_rsize storwize_svc_vol_warning
            storwize_svc_volpool_name suppress_requests_ssl_warnings synology_admin_port synology_device_id synology_one_time_pass
            synology_password synology_pool_name synology_ssl_verify synology_username target_helper target_ip_address target_port
            target_prefix target_protocol target_secondary_ip_addresses tat_api_retry_count thres_avl_size_perc_start
            thres_avl_size_perc_stop trace_flags tyds_clone_progress_interval tyds_copy_progress_interval tyds_http_port tyds_pools
            tyds_stripe_size u4p_failover_autofailback u4p_failover_backoff_factor u4p_failover_retries u4p_failover_target
            u4p_failover_timeout unique_fqdn_network unity_io_ports unity_storage_pool_names use_chap_auth
            use_multipath_for_image_xfer vast_api_token vast_snapshot_prefix vast_subsystem vast_tenant_name vast_vippool_name
            vast_volume_prefix vmax_workload vmstore_dataset_description vmstore_mount_point_base vmstore_openstack_hostname
            vmstore_password vmstore_qcow2_volumes vmstore_refresh_openstack_region vmstore_refresh_retry_count vmstore_rest_address
            vmstore_rest_backoff_factor vmstore_rest_connect_timeout vmstore_rest_port vmstore_rest_protocol
            vmstore_rest_read_timeout vmstore_rest_retry_count vmstore_sparsed_volumes vmstore_user vmware_adapter_type
            vmware_api_retry_count vmware_ca_file vmware_cluster_name vmware_connection_pool_size vmware_datastore_regex
            vmware_enable_volume_stats vmware_host_ip vmware_host_password vmware_host_port vmware_host_username vmware_host_version
            vmware_image_transfer_timeout_secs vmware_insecure vmware_lazy_create vmware_max_objects_retrieval
            vmware_snapshot_format vmware_storage_profile vmware_task_poll_interval vmware_tmp_dir vmware_volume_folder
            vmware_wsdl_location vnx_async_migrate volume_backend_name volume_clear volume_clear_ionice volume_clear_size
            volume_copy_blkio_cgroup_name volume_copy_bps_limit volume_dd_blocksize volume_driver volume_group volumes_dir
            vxflexos_allow_migration_during_rebuild vxflexos_allow_non_padded_volumes vxflexos_max_over_subscription_ratio
            vxflexos_rest_server_port vxflexos_round_volume_capacity vxflexos_server_api_version vxflexos_storage_pools
            vxflexos_unmap_volume_before_deletion vzstorage_default_volume_format vzstorage_mount_options vzstorage_mount_point_base
            vzstorage_shares_config vzstorage_sparsed_volumes vzstorage_used_ratio wait_interval wait_retry_count
            xtremio_array_busy_retry_count xtremio_array_busy_retry_interval xtremio_clean_unused_ig xtremio_cluster_name
            xtremio_ports xtremio_volumes_per_glance_cache zadara_access_key zadara_default_snap_policy zadara_gen3_vol_compress
            zadara_gen3_vol_dedupe zadara_ssl_cert_verify zadara_vol_encrypt zadara_vpsa_host zadara_vpsa_poolname zadara_vpsa_port
            zadara_vpsa_use_ssl
            """),
        "barbican": words(
            """
            auth_endpoint barbican_api_version barbican_endpoint barbican_endpoint_type barbican_region_name number_of_retries
            retry_delay send_service_user_token verify_ssl verify_ssl_path
            """),
        "barbican_service_user": words(
            """
            -
            """),
        "brcd_fabric_example": words(
            """
            fc_fabric_address fc_fabric_password fc_fabric_port fc_fabric_ssh_cert_path fc_fabric_user fc_southbound_protocol
            fc_virtual_fabric_id zone_activate zone_name_prefix zoning_policy
            """),
        "cache": words(
            """
            backend backend_argument backend_expiration_time config_prefix dead_timeout debug_cache_backend enable_retry_client
            enable_socket_keepalive enabled expiration_time hashclient_dead_timeout hashclient_retry_attempts hashclient_retry_delay
            hashclient_retry_timeout memcache_dead_retry memcache_password memcache_pool_connection_get_timeout
            memcache_pool_flush_on_reconnect memcache_pool_maxsize memcache_pool_unused_timeout memcache_sasl_enabled
            memcache_servers memcache_socket_timeout memcache_username password proxies redis_db redis_password
            redis_sentinel_service_name redis_sentinels redis_server redis_socket_timeout redis_username retry_attempts retry_delay
            socket_keepalive_count socket_keepalive_idle socket_keepalive_interval socket_timeout tls_allowed_ciphers tls_cafile
            tls_certfile tls_enabled tls_keyfile username
            """),
        "cisco_fabric_example": words(
            """
            cisco_fc_fabric_address cisco_fc_fabric_password cisco_fc_fabric_port cisco_fc_fabric_user cisco_zone_activate
            cisco_zone_name_prefix cisco_zoning_policy cisco_zoning_vsan
            """),
        "coordination": words(
            """
            backend_url
            """),
        "cors": words(
            """
            allow_credentials allow_headers allow_methods allowed_origin expose_headers max_age
            """),
        "database": words(
            """
            asyncio_connection asyncio_slave_connection backend connection connection_debug connection_parameters
            connection_recycle_time connection_trace db_inc_retry_interval db_max_retries db_max_retry_interval db_retry_interval
            max_overflow max_pool_size max_retries mysql_sql_mode mysql_wsrep_sync_wait pool_timeout retry_interval slave_connection
            sqlite_synchronous synchronous_reader use_db_reconnect
            """),
        "fc-zone-manager": words(
            """
            brcd_sb_connector cisco_sb_connector enable_unsupported_driver fc_fabric_names fc_san_lookup_service zone_driver
            zoning_policy
            """),
        "glance": words(
            """
            -
            """),
        "healthcheck": words(
            """
            allowed_source_ranges backends detailed disable_by_file_path disable_by_file_paths enable_by_file_paths
            ignore_proxied_requests
            """),
        "key_manager": words(
            """
            api_class backend fixed_key reauthenticate
            """),
        "keystone_authtoken": words(
            """
            cache delay_auth_decision enforce_token_bind http_connect_timeout http_request_max_retries include_service_catalog
            memcache_password memcache_pool_conn_get_timeout memcache_pool_dead_retry memcache_pool_maxsize
            memcache_pool_socket_timeout memcache_pool_unused_timeout memcache_sasl_enabled memcache_secret_key
            memcache_security_strategy memcache_servers memcache_tls_allowed_ciphers memcache_tls_cafile memcache_tls_certfile
            memcache_tls_enabled memcache_tls_keyfile memcache_use_advanced_pool memcache_username memcached_servers
            service_token_roles service_token_roles_required token_cache_time www_authenticate_uri
            """),
        "nova": words(
            """
            token_auth_url
            """),
        "oslo_concurrency": words(
            """
            disable_process_locking lock_path
            """),
        "oslo_messaging_kafka": words(
            """
            compression_codec consumer_group enable_auto_commit kafka_consumer_timeout kafka_max_fetch_bytes max_poll_records
            producer_batch_size producer_batch_timeout sasl_mechanism security_protocol ssl_cafile ssl_client_cert_file
            ssl_client_key_file ssl_client_key_password
            """),
        "oslo_messaging_notifications": words(
            """
            driver retry topics transport_url
            """),
        "oslo_messaging_rabbit": words(
            """
            amqp_auto_delete amqp_durable_queues conn_pool_min_size conn_pool_ttl direct_mandatory_flag enable_cancel_on_failover
            heartbeat_rate heartbeat_timeout_threshold hostname kombu_compression kombu_failover_strategy
            kombu_missing_consumer_retry_timeout kombu_reconnect_delay kombu_reconnect_splay kombu_reconnect_timeout processname
            rabbit_ha_queues rabbit_interval_max rabbit_login_method rabbit_qos_prefetch_count rabbit_quorum_delivery_limit
            rabbit_quorum_max_memory_bytes rabbit_quorum_max_memory_length rabbit_quorum_queue rabbit_retry_backoff
            rabbit_retry_interval rabbit_stream_fanout rabbit_transient_queues_ttl rabbit_transient_quorum_queue rpc_conn_pool_size
            ssl ssl_ca_file ssl_cert_file ssl_enforce_fips_mode ssl_enforce_hostname_verification ssl_key_file ssl_version
            use_queue_manager
            """),
        "oslo_middleware": words(
            """
            enable_proxy_headers_parsing max_request_body_size
            """),
        "oslo_policy": words(
            """
            enforce_new_defaults policy_default_rule policy_dirs policy_file remote_content_type remote_ssl_ca_crt_file
            remote_ssl_client_crt_file remote_ssl_client_key_file remote_ssl_verify_server_crt remote_timeout
            """),
        "oslo_reports": words(
            """
            file_event_handler file_event_handler_interval log_dir
            """),
        "oslo_versionedobjects": words(
            """
            fatal_exception_format_errors
            """),
        "privsep": words(
            """
            capabilities group helper_command log_daemon_traceback logger_name thread_pool_size user
            """),
        "profiler": words(
            """
            connection_string enabled es_doc_type es_scroll_size es_scroll_time filter_error_trace hmac_keys profiler_enabled
            sentinel_service_name socket_timeout trace_requests trace_sqlalchemy
            """),
        "profiler_jaeger": words(
            """
            process_tags service_name_prefix
            """),
        "profiler_otlp": words(
            """
            service_name_prefix
            """),
        "service_user": words(
            """
            send_service_user_token
            """),
        "ssl": words(
            """
            ca_file cert_file ciphers key_file version
            """),
        "vault": words(
            """
            approle_role_id approle_secret_id auth_method auth_path kv_mountpoint kv_path kv_version namespace root_token_id
            ssl_ca_crt_file token_file token_role use_ssl vault_url
            """),
    ]
}
